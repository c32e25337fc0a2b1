//! The processes that a world has started, and the audit log of each.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Keeps an audit log for each process that is started with it.
#[derive(Clone)]
pub(crate) struct Ledger {
    directory: PathBuf,
    pages: Arc<Mutex<Vec<Page>>>,
}

/// One process.
#[derive(Clone)]
pub(crate) struct Page {
    pub(crate) pod: String,
    /// The Pod, and what the process was told to do.
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    cut: Arc<AtomicBool>,
}

impl Page {
    /// The process did not end in its own time.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }
}

impl Ledger {
    pub(crate) fn in_directory(directory: PathBuf) -> Ledger {
        Ledger { directory, pages: Arc::default() }
    }

    /// A page for a new process.
    pub(crate) fn open(&self, pod: &str, told: &str) -> Page {
        let mut pages = self.lock();
        let file = self.directory.join(format!("audit-{}", pages.len()));
        let name = format!("{pod} {told}").trim_end().to_owned();
        let page = Page { pod: pod.to_owned(), name, file, cut: Arc::default() };
        pages.push(page.clone());
        page
    }

    /// All so far.
    pub(crate) fn pages(&self) -> Vec<Page> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Page>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
