//! Server processes for benches.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A server process, ended when dropped.
pub struct Server {
    process: Child,
    /// Where it listens.
    pub base: String,
}

impl Server {
    /// Starts a command that says where it listens at the end of its first line.
    pub fn start(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().expect("a server");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("its output"))
            .read_line(&mut line)
            .expect("its first line");
        let base = line
            .trim()
            .rsplit(' ')
            .next()
            .expect("an address")
            .to_owned();
        Self { process, base }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
