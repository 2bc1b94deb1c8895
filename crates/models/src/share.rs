//! How what is done here gets to others: into the folder, and before that into what it is a mirror of.

use std::collections::BTreeMap;

use farthing_contract::bundle::disk::{append_history, change_aliases, history_path, read_history};
use farthing_contract::bundle::{Alias, Aliases, BundleError, Event, Kind, Target};

use crate::mirror::{Commit, place_of};
use crate::store::{State, Store, target_of};

impl Store {
    /// Has a version that is only in what the folder is a mirror of come here.
    pub(crate) fn bring(&self, kind: Kind, version: u32) -> Result<(), BundleError> {
        self.mirror.as_ref().map_or(Ok(()), |mirror| mirror.bring_version(kind, version))
    }

    /// What decides, by kind and alias.
    pub(crate) fn live_targets(&self) -> BTreeMap<String, Target> {
        let all = Kind::ALL.iter().flat_map(|kind| Alias::ALL.iter().map(move |alias| (*kind, *alias)));
        all.filter_map(|(kind, alias)| Some((place_of(kind, alias), target_of(&*self.current(kind, alias)?)))).collect()
    }

    /// Tells the store of rollbacks that it could not take when they happened.
    pub(crate) fn tell_store(&self, state: &mut State) {
        if state.untold.is_empty() || self.is_gone() {
            return;
        }
        let known = read_history(&history_path(&self.root)).unwrap_or_default();
        state.untold.retain(|event| {
            if known.events().contains(event) {
                return false;
            }
            let told = self.change((event.kind, event.alias), |aliases| {
                let still = aliases.get(event.kind, event.alias).is_some_and(|named| Some(&named.current) == event.from.as_ref());
                if still && event.alias == Alias::Champion {
                    // Where the file remembers nothing to go back to, the event alone keeps the version out.
                    let _ = aliases.rollback(event.kind, event.alias, event.at_ns);
                } else if still {
                    aliases.clear(event.kind, event.alias);
                }
                Ok(((), Some(event.clone())))
            });
            told.is_err()
        });
    }

    /// Changes the aliases, and tells of it: in the folder, and before that in what it is a mirror of. An order that another instance was quicker than
    /// is given again, unless it was about the same alias.
    pub(crate) fn change<T>(
        &self,
        of: (Kind, Alias),
        change: impl Fn(&mut Aliases) -> Result<(T, Option<Event>), BundleError>,
    ) -> Result<T, BundleError> {
        let here = |commit: &mut Commit<'_>| {
            change_aliases(&self.root, |aliases| {
                let before = aliases.clone();
                let (result, event) = change(aliases)?;
                if event.is_some() || *aliases != before {
                    commit(aliases, event.as_ref())?;
                }
                event.iter().try_for_each(|event| append_history(&history_path(&self.root), event))?;
                Ok(result)
            })
        };
        match &self.mirror {
            Some(mirror) => mirror.change(of, here),
            None => here(&mut |_, _| Ok(())),
        }
    }
}
