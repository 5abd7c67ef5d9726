//! Rendered answers in memory, in front of the database: what is asked for again is served without a query.
//!
//! Entries never go stale, because what they hold never changes; the least useful leave when the weight is reached.

use bytes::Bytes;
use moka::sync::Cache;
use std::sync::Arc;

/// A rendered answer.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Id of the schedule in it: its entity tag.
    pub schedule_id: Arc<str>,
    /// The bytes to send.
    pub body: Bytes,
}

/// A byte-bounded cache of rendered answers.
#[derive(Clone, Debug)]
pub struct Memo {
    entries: Cache<String, Entry>,
}

impl Memo {
    /// A cache of at most `capacity` bytes of keys and bodies.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        let weigh = |key: &String, entry: &Entry| {
            u32::try_from(key.len() + entry.body.len()).unwrap_or(u32::MAX)
        };
        Self {
            entries: Cache::builder()
                .max_capacity(capacity)
                .weigher(weigh)
                .build(),
        }
    }

    #[must_use]
    pub fn get(&self, key: &str) -> Option<Entry> {
        self.entries.get(key)
    }

    /// Puts the same answer under a further key, where there is one.
    pub fn put_under(&self, key: Option<String>, entry: &Entry) {
        if let Some(key) = key {
            self.put(key, entry.clone());
        }
    }

    pub fn put(&self, key: String, entry: Entry) {
        self.entries.insert(key, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_stays_within_its_bytes() {
        let memo = Memo::new(10_000);
        for i in 0..100 {
            let body = Bytes::from(vec![0; 1000]);
            let schedule_id = Arc::from("id");
            memo.put(i.to_string(), Entry { schedule_id, body });
        }
        memo.entries.run_pending_tasks();
        assert!(memo.entries.weighted_size() <= 10_000);
    }
}
