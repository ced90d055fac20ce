//! Policies on slices of the traffic: made by the learning loop, changed by operators.

use serde_json::{Value, json};
use tidegate_core::event::PolicyNote;

use super::{ChangeError, Control, State, act};
use crate::audit::{self, Action, Actor};
use crate::learn::{Learner, OnlyModels, Settings, Understanding, carry_out};
use crate::llm::routing::Steer;
use crate::policies::{Alarm, BookError, Edit, Limits, Moment, Record};
use crate::store::Table;

impl Control {
    /// The policies there are, and the alarms.
    #[must_use]
    pub fn policies(&self) -> (Vec<Record>, Vec<Alarm>) {
        let state = self.lock();
        (state.book.records().cloned().collect(), state.book.alarms().cloned().collect())
    }

    /// What became of a cluster's incident, in its order.
    #[must_use]
    pub fn timeline(&self, cluster_id: &str) -> Vec<Moment> {
        self.lock().book.timeline(cluster_id)
    }

    /// The policies that the router carries out.
    #[must_use]
    pub fn steers(&self) -> Vec<Steer> {
        self.lock().book.records().filter_map(Record::steer).collect()
    }

    /// Has the learning loop decide, and carries out what it decides. What cannot be kept on the
    /// disk is in force all the same: it is learnt again after a restart.
    pub fn decide_policies<U: Understanding>(
        &self,
        learner: &mut Learner<U>,
        only_models: OnlyModels<'_>,
        now_ms: u64,
    ) {
        let (settings, standing) = {
            let state = self.lock();
            let settings =
                Settings { incidents: state.config.incidents.clone(), breaker: state.config.breaker };
            (settings, state.book.records().cloned().collect::<Vec<_>>())
        };
        let limits = Limits {
            traffic_share_max: settings.incidents.traffic_share_max,
            changes_per_minute: settings.incidents.changes_per_minute,
        };
        let decisions = learner.decide(&standing, &settings, only_models, now_ms);
        let mut state = self.lock();
        let is_over = state.book.expire(now_ms);
        let (decided, lifted) = carry_out(decisions, &mut state.book, limits, now_ms);
        lifted.iter().for_each(|record| learner.forget(&record.cluster_id));
        if is_over || decided {
            self.put_policies_in_force(&mut state);
        }
    }

    /// Notes what filters did with a policy; gives the policy if it has ended by it.
    #[must_use]
    pub fn note_policy(&self, note: &PolicyNote, now_ms: u64) -> Option<Record> {
        let mut state = self.lock();
        let ended = state.book.note(note, now_ms)?;
        self.put_policies_in_force(&mut state);
        Some(ended)
    }

    fn put_policies_in_force(&self, state: &mut State) {
        if let Err(error) = self.keep_policies(state, None) {
            tracing::error!(%error, "policies could not be kept; they are in force until a restart");
        }
        if let Err(error) = self.publish(state) {
            tracing::error!(%error, "filters would refuse the policies; the last good ones stay");
        }
    }

    /// Stores the records that have changed, with what was done about them.
    fn keep_policies(&self, state: &mut State, act: Option<audit::Act>) -> Result<(), ChangeError> {
        let changed = state.book.take_changed();
        if changed.is_empty() && act.is_none() {
            return Ok(());
        }
        let book = &state.book;
        Ok(self.store.write(|writer| {
            for id in &changed {
                writer.put_record(Table::Policies, id, book.get(id))?;
            }
            act.as_ref().map_or(Ok(()), |act| audit::append(writer, act))
        })?)
    }

    /// Changes a policy, or makes one of an operator's own.
    ///
    /// # Errors
    /// What is wrong with the change, or the store failed.
    pub fn edit_policy(&self, id: &str, edit: Edit, by: &Actor, now_ms: u64) -> Result<Record, ChangeError> {
        let mut state = self.lock();
        let before = state.book.get(id).map_or(Value::Null, |record| json!(record));
        let breaker = state.config.breaker;
        let record = state.book.edit(id, edit, &breaker, &by.key, now_ms).map_err(ChangeError::Policy)?;
        let act = act(by, Action::PolicyChanged, id, before, json!(record));
        self.keep_policies(&mut state, Some(act))?;
        self.publish(&state)?;
        Ok(record)
    }

    /// Removes a policy.
    ///
    /// # Errors
    /// There is none of that name, or the store failed.
    pub fn delete_policy(&self, id: &str, by: &Actor) -> Result<(), ChangeError> {
        let mut state = self.lock();
        let record = state.book.remove(id).ok_or(ChangeError::Policy(BookError::Unknown))?;
        let act = act(by, Action::PolicyDeleted, id, json!(record), Value::Null);
        self.keep_policies(&mut state, Some(act))?;
        self.publish(&state)
    }
}
