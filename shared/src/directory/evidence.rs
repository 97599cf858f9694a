//! What a search has learnt from others before its first result.

use std::path::Path;

use crate::directory::Directory;
use crate::error::{Error, Invalid, Result};
use crate::evidence::{Evidence, EvidenceFile};
use crate::format::Record as _;
use crate::fs;
use crate::layout::{self, Layout};

impl Directory {
    /// Keeps evidence in a folder that is to become a search directory; whoever keeps the same writes the same file.
    pub fn keep_evidence(root: &Path, evidence: &Evidence) -> Result<EvidenceFile> {
        let layout = Layout::new(root);
        super::refuse_links(&layout)?;
        fs::make_folder(&layout.path(layout::EVIDENCE))?;
        let named = evidence.named();
        fs::publish_record(&layout.evidence(&named.digest), evidence)?;
        Ok(named)
    }

    /// The evidence that the search learns from, in its order.
    ///
    /// # Errors
    /// A file is not there, or is not the one that `search.json` names.
    pub fn evidence(&self) -> Result<Vec<Evidence>> {
        let read = |named: &EvidenceFile| {
            let path = self.inside(self.layout.evidence(&named.digest))?;
            let evidence: Evidence = fs::read_record(&path)?;
            if evidence.digest() == named.digest {
                return Ok(evidence);
            }
            let expected = format!(
                "the {} results that `search.json` names by their digest",
                named.results
            );
            let found = format!("others, with digest {}", evidence.digest());
            Err(Error::Value {
                path,
                format: Evidence::FORMAT,
                source: Invalid::new("", expected, found).into(),
            })
        };
        self.search.learn_from.iter().map(read).collect()
    }
}
