//! From an [`LeaseAccess`] to the options of a client.
//!
//! IO: opens the audit log and the service account's files.

use std::sync::Arc;

use super::LeaseAccess;
use crate::kube::{Audit, ClientOptions, Credentials, CredentialsError};

impl LeaseAccess {
    /// For a client that writes the audit log, if one is asked for, and does not yet have [`LeaseAccess::credentials`].
    ///
    /// # Errors
    ///
    /// The audit log can't be opened.
    pub(crate) fn client_options(&self) -> Result<ClientOptions, String> {
        let mut options = ClientOptions::new(&self.api_url);
        if let Some(target) = &self.audit_log {
            let audit = Audit::open(target).map_err(|error| {
                format!("AUDIT_LOG: {error}; set it to stdout, stderr or a file that can be written")
            })?;
            options.audit = Some(Arc::new(audit));
        }
        Ok(options)
    }

    /// Token and CA. `None`: plain HTTP, to which no token is sent.
    ///
    /// # Errors
    ///
    /// The service account's files are not what they must be.
    pub(crate) fn credentials(&self) -> Result<Option<Arc<Credentials>>, CredentialsError> {
        let opened = self.api_url.starts_with("https:").then(|| Credentials::open(&self.service_account_dir));
        Ok(opened.transpose()?.map(Arc::new))
    }
}
