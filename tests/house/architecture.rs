//! Who may use whom. The table is the design: change it deliberately, with the reason beside the row.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// For every module, the modules of this crate it may name.
const EDGES: &[(&str, &[&str])] = &[
    ("schedule", &[]),
    ("objective", &["schedule"]),
    ("solver", &["schedule"]),
    ("denoiser", &["schedule", "solver"]),
    ("calibrate", &["denoiser", "schedule", "solver"]),
    ("hso", &["objective", "schedule"]),
    // The contract resolves requests against the published defaults of search and spacing, and shows the states of jobs.
    (
        "api",
        &["hso", "lifecycle", "objective", "schedule", "solver"],
    ),
    (
        "optimize",
        &[
            "api",
            "calibrate",
            "denoiser",
            "hso",
            "objective",
            "schedule",
        ],
    ),
    ("plot", &["api", "schedule"]),
    ("lifecycle", &[]),
    // The store applies the queue's rules inside its transactions.
    ("store", &["lifecycle"]),
    (
        "jobs",
        &["api", "denoiser", "lifecycle", "optimize", "store"],
    ),
    ("webhooks", &["jobs", "store"]),
    (
        "http",
        &[
            "api",
            "denoiser",
            "jobs",
            "lifecycle",
            "optimize",
            // Pictures of a stored schedule.
            "plot",
            "schedule",
            "store",
            "webhooks",
        ],
    ),
    ("telemetry", &[]),
    (
        "cli",
        &[
            "api",
            "denoiser",
            "hso",
            "http",
            "jobs",
            "lifecycle",
            "optimize",
            "plot",
            "schedule",
            "store",
            "telemetry",
            "webhooks",
        ],
    ),
    ("lib", &[]),
    ("main", &["cli"]),
];

/// Crates that only these modules may name.
const OWNERS: &[(&str, &[&str])] = &[
    ("sqlx", &["store"]),
    ("moka", &["store"]),
    ("axum", &["http"]),
    ("candle_core", &["denoiser"]),
    ("gemm", &["denoiser"]),
    ("pulp", &["denoiser"]),
    ("safetensors", &["denoiser"]),
    ("png", &["optimize"]),
    ("base64", &["optimize"]),
    ("tokenizers", &["denoiser"]),
    ("tower_http", &["http"]),
    ("utoipa", &["api", "http"]),
    ("clap", &["cli", "main", "telemetry"]),
    ("anyhow", &["cli"]),
    ("rayon", &["denoiser", "hso", "jobs"]),
    ("tokio", &["cli", "http", "jobs", "store", "webhooks"]),
    ("jiff", &["http", "jobs", "optimize", "store", "webhooks"]),
    ("futures_util", &["http"]),
    ("governor", &["http"]),
    ("reqwest", &["webhooks"]),
    ("rustls", &["webhooks"]),
    ("standardwebhooks", &["webhooks"]),
];

/// What pure modules may name besides this crate.
const PURE: &[&str] = &["schedule", "solver", "objective", "hso", "lifecycle"];
const PURE_CRATES: &[&str] = &["std", "serde", "thiserror", "rayon", "libm", "rand_chacha"];

/// The product's files by module; a file of tests is no part of it.
fn sources() -> BTreeMap<String, Vec<(PathBuf, String)>> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if !path.ends_with("tests.rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    let mut modules: BTreeMap<String, Vec<(PathBuf, String)>> = BTreeMap::new();
    for file in files {
        let relative = file.strip_prefix(&root).unwrap();
        let first = relative.components().next().unwrap().as_os_str();
        let module = Path::new(first).file_stem().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&file).unwrap();
        modules
            .entry(module.to_owned())
            .or_default()
            .push((file, text));
    }
    modules
}

/// The product's part of a file: what comes before its tests, comments left out.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .map(str::trim)
        .filter(|line| !line.starts_with("//"))
}

/// Names that follow `prefix` in a line.
fn names_after<'a>(line: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(prefix).map(move |(at, _)| {
        let rest = &line[at + prefix.len()..];
        let end = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        &rest[..end]
    })
}

#[test]
fn modules_only_use_what_the_table_allows() {
    let allowed: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    for (module, files) in sources() {
        let edges = allowed
            .get(module.as_str())
            .unwrap_or_else(|| panic!("src/{module} is not in the table"));
        for (file, text) in files {
            for line in code(&text) {
                for used in names_after(line, "crate::") {
                    let known = allowed.contains_key(used);
                    assert!(
                        !known || used == module || edges.contains(&used),
                        "{}: {module} may not use {used}: {line}",
                        file.display()
                    );
                }
            }
        }
    }
}

#[test]
fn crates_stay_with_their_owners() {
    let names = |line: &str, name: &str| {
        line.starts_with(&format!("use {name}::"))
            || line.starts_with(&format!("use {name};"))
            || line.contains(&format!("{name}::")) && !line.contains(&format!("_{name}::"))
    };
    for (module, files) in sources() {
        for (file, text) in files {
            for line in code(&text) {
                for (name, owners) in OWNERS {
                    assert!(
                        !names(line, name) || owners.contains(&module.as_str()),
                        "{}: {name} belongs to {owners:?}: {line}",
                        file.display()
                    );
                }
                if PURE.contains(&module.as_str())
                    && let Some(used) = line.strip_prefix("use ")
                {
                    let root = used.split([':', ';', ' ']).next().unwrap();
                    let own = ["crate", "super", "self"].contains(&root)
                        || files_of(&module).contains(&root.to_owned());
                    assert!(
                        own || PURE_CRATES.contains(&root),
                        "{}: {root} is not for pure modules: {line}",
                        file.display()
                    );
                }
            }
        }
    }
}

/// Submodules that a `use` may start with.
fn files_of(module: &str) -> Vec<String> {
    sources()[module]
        .iter()
        .filter_map(|(file, _)| Some(file.file_stem()?.to_str()?.to_owned()))
        .collect()
}

#[test]
fn files_are_short_and_say_what_they_are() {
    for files in sources().values() {
        for (file, text) in files {
            let lines = text.lines().count();
            assert!(lines <= 420, "{} has {lines} lines", file.display());
            assert!(
                text.starts_with("//!"),
                "{} does not say what it is",
                file.display()
            );
        }
    }
}
