//! A topic that a measurement makes for itself and deletes at its end.

use crate::cli::out;
use anyhow::Context;
use dlog_client::{Admin, Client, NewTopic};

/// A topic of its own; [`OwnTopic::delete`] must follow, however the measurement ends.
pub struct OwnTopic {
    admin: Admin,
    /// Its name.
    pub name: String,
}

impl OwnTopic {
    /// Makes it, with the cluster's default number of replicas.
    ///
    /// # Errors
    /// The cluster's.
    pub async fn make(client: &Client, partitions: u32) -> anyhow::Result<OwnTopic> {
        let name = format!("bench-{}-{:08x}", std::process::id(), crate::random::random().u32(..));
        let topic = NewTopic { name: name.clone(), partitions, if_not_exists: true, ..NewTopic::default() };
        let admin = client.admin();
        admin.create_topic(topic).await.with_context(|| format!("can't create topic {name}"))?;
        Ok(OwnTopic { admin, name })
    }

    /// Deletes it, or says that it is left behind.
    pub async fn delete(self) {
        let name = self.name;
        if let Err(error) = self.admin.delete_topic(&name, false).await {
            out::note(format!("topic {name} is left behind ({error}); delete it with: dlog topic delete {name} --yes"));
        }
    }
}
