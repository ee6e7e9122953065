//! The replacement of one worker: a single step of the rolling reload, with the release that runs.

use super::plan::Move;
use super::{Rollout, RolloutError};
use crate::system::process::ended;

impl Rollout<'_> {
    /// A new worker takes the index of the one in `slot`, which then drains and goes. `false`: that one is not there any
    /// more, and nothing was done.
    ///
    /// On an error, and when it is told to stop, the new one is taken away and the old one stays; from when the new one has
    /// taken over, it is brought to its end in any case.
    pub async fn replace_one(&self, slot: &str) -> Result<bool, RolloutError> {
        self.ledger.update(|progress| progress.left = vec![slot.to_owned()]);
        let outcome = tokio::select! {
            outcome = self.bring_heir(slot) => outcome,
            () = self.stop.cancelled() => Err(match self.why_stopped().await {
                stopped @ RolloutError::Stopped => stopped,
                _ => RolloutError::Aborted,
            }),
            () = ended(self.router) => Err(RolloutError::RouterDied),
        };
        let stands = !self.ledger.now().replaced.is_empty();
        match outcome {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(_) if stands => {}
            Err(error) => {
                // Its next router, if it has died, is none that waits for us, as one does for a reload.
                self.undo(if matches!(error, RolloutError::RouterDied) { &RolloutError::Aborted } else { &error })
                    .await;
                return Err(error);
            }
        }
        // Before the old one drains, which may take long: all others get new sessions as well.
        self.end().await;
        self.ledger.update(|progress| progress.retiring = std::mem::take(&mut progress.left));
        self.retire(vec![self.names.slot(slot)]).await?;
        Ok(true)
    }

    async fn bring_heir(&self, slot: &str) -> Result<bool, RolloutError> {
        let (old, mut taken) = self.look().await?;
        let Some(index) = old.iter().find(|old| old.slot == slot).and_then(|old| old.index) else {
            return Ok(false);
        };
        self.ask(async || self.control.begin_rollout(self.workers).await).await?;
        // The old one goes later, see above.
        self.replace(&[Move { index, old: None }], &mut taken).await?;
        Ok(true)
    }
}
