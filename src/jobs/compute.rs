//! Threads for computing, apart from those that serve: a panic there is an answer, not the end of the process.

use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::sync::oneshot;

/// A panic, already logged by its hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panicked;

/// A pool of as many threads as there are CPUs. Each worker has its own, so that no job waits on another's threads; the
/// system shares the CPUs among them.
pub(super) struct Compute(rayon::ThreadPool);

impl Compute {
    pub fn new(name: &str) -> Result<Self, rayon::ThreadPoolBuildError> {
        let name = name.to_owned();
        let pool = rayon::ThreadPoolBuilder::new()
            .thread_name(move |i| format!("{name}-{i}"))
            .build()?;
        Ok(Self(pool))
    }

    /// Starts work at once, whether or not the answer is awaited.
    pub fn spawn<T, F>(
        &self,
        work: F,
    ) -> impl Future<Output = Result<T, Panicked>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (give, take) = oneshot::channel();
        self.0.spawn(move || {
            let _ = give.send(catch_unwind(AssertUnwindSafe(work)).map_err(|_| Panicked));
        });
        async move { take.await.unwrap_or(Err(Panicked)) }
    }
}
