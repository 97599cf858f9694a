//! What trainers show of themselves, and what schedulers remember of them.

use std::collections::BTreeMap;

use crate::directory::Directory;
use crate::error::Result;
use crate::fs;
use crate::id::OwnerId;
use crate::layout;
use crate::owner::host_name;
use crate::record::{Heartbeat, Observation};

impl Directory {
    /// Shows that a trainer lives.
    pub fn beat(&self, heartbeat: &Heartbeat) -> Result<()> {
        fs::show_record(&self.layout.heartbeat(&heartbeat.owner), heartbeat)
    }

    /// Every trainer that ever was, ascending.
    pub fn owners(&self) -> Result<Vec<OwnerId>> {
        self.list_ids(&self.layout.path(layout::TRAINERS))
    }

    /// The newest heartbeat of every trainer that ever was, by owner.
    pub fn heartbeats(&self) -> Result<BTreeMap<OwnerId, Heartbeat>> {
        let owners = self.owners()?;
        let mut heartbeats = BTreeMap::new();
        for owner in owners {
            if let Some(heartbeat) = self.read_heartbeat(&owner)? {
                heartbeats.insert(owner, heartbeat);
            }
        }
        Ok(heartbeats)
    }

    /// A trainer's newest heartbeat.
    pub fn read_heartbeat(&self, owner: &OwnerId) -> Result<Option<Heartbeat>> {
        self.read_or_quarantine(self.layout.heartbeat(owner), |beat: &Heartbeat| {
            beat.owner == *owner
        })
    }

    /// What a scheduler of this host saw last, if one has left word. A corrupt one is set aside.
    pub fn read_observation(&self) -> Result<Option<Observation>> {
        let host = host_name();
        self.read_or_quarantine(
            self.layout.observation(&host),
            |observation: &Observation| observation.host == host,
        )
    }

    /// Leaves word for the next scheduler of this host.
    pub fn leave_observation(&self, observation: &Observation) -> Result<()> {
        let path = self.inside(self.layout.observation(&observation.host))?;
        fs::replace_record(&path, observation)
    }
}
