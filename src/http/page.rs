//! Lists in pages: as many entries as asked for, and where the next page begins.

const DEFAULT: u32 = 50;
const MOST: u32 = 200;

/// Entries of a page. One more is read, to see whether there is a next page.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    size: u32,
}

impl Page {
    /// The size a client asked for, within limits.
    pub fn of(limit: Option<u32>) -> Self {
        Self {
            size: limit.unwrap_or(DEFAULT).clamp(1, MOST),
        }
    }

    /// Rows to read.
    pub fn rows(self) -> u32 {
        self.size + 1
    }

    /// The page's rows, and the cursor of the next page: the `id` of this one's last.
    pub fn cut<T>(self, mut rows: Vec<T>, id: impl Fn(&T) -> &str) -> (Vec<T>, Option<String>) {
        let has_next = rows.len() > self.size as usize;
        rows.truncate(self.size as usize);
        let last = rows.last().filter(|_| has_next);
        let cursor = last.map(|last| id(last).to_owned());
        (rows, cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_knows_whether_there_is_a_next() {
        let page = Page::of(Some(2));
        let cut = |rows: &[&'static str]| page.cut(rows.to_vec(), |row| row);
        assert_eq!(page.rows(), 3);
        assert_eq!(cut(&["a", "b"]), (vec!["a", "b"], None));
        assert_eq!(
            cut(&["a", "b", "c"]),
            (vec!["a", "b"], Some("b".to_owned()))
        );
        assert_eq!(Page::of(Some(0)).rows(), 2);
    }
}
