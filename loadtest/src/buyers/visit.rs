//! One buyer's visit: ask, maybe twice; and when the unit is theirs, whatever they are up to.

use super::answer::{Answer, Next};
use super::cashier::Payment;
use super::crowd::Held;
use super::insist::{Question, insist};
use super::persona::{Ending, Persona, Sending};
use super::wave::Wave;
use super::wish::Wish;
use super::worker::{Errand, Visited, Worker};
use crate::history::Seen;

impl Worker {
    /// Lets a buyer ask once (or twice at once), and a winner do the rest.
    pub(super) async fn visit(&mut self, wave: &Wave, errand: &Errand) -> Visited {
        let crowd = self.crowd.clone();
        let persona = Persona::draw(&crowd.plan, errand.n, wave.number, wave.items.len());
        let wish = crowd.shelf.wish(&crowd.plan, errand.n, wave, &persona);
        let answer = if persona.sending == Sending::TwiceAtOnce && errand.tries == 0 {
            self.twice_at_once(&wish).await
        } else {
            crowd.reserve(&mut self.client, &wish).await
        };
        let unknown = errand.unknown || answer.is_unknown();
        match answer.next() {
            Next::Granted => {
                self.celebrate(&wish, &answer, &persona).await;
                Visited::Home
            }
            Next::Again if errand.tries + 1 < crowd.plan.patience.tries_max => {
                Visited::Later { retry_after: answer.retry_after, unknown }
            }
            Next::Again if unknown => Visited::Home,
            Next::Again | Next::Refused => {
                if answer.may_come_back() {
                    self.refused.push(errand.n);
                }
                Visited::Home
            }
        }
    }

    /// The same request on two connections at the same time. Whatever happens, one key is one
    /// reservation; returns the answer that counts.
    async fn twice_at_once(&mut self, wish: &Wish) -> Answer {
        let crowd = self.crowd.clone();
        let (one, other) = tokio::join!(
            crowd.reserve(&mut self.client, wish),
            crowd.reserve(&mut self.second, wish),
        );
        match (one.next(), other.next()) {
            (Next::Granted, Next::Granted) => {
                if !one.replayed && !other.replayed && !crowd.plan.shared {
                    self.strange(wish, "sent twice at once: neither answer is a replay");
                }
                self.compare(wish, &one, &other);
                one
            }
            // The other answer was given beside this one; asked again, it has to be the same.
            (Next::Granted, _) => self.same_again(wish, one).await,
            (_, Next::Granted) => self.same_again(wish, other).await,
            _ if one.is_unknown() => one,
            _ if other.is_unknown() || one.next() == Next::Again => other,
            _ => one,
        }
    }

    /// A winner does what is in their character.
    async fn celebrate(&mut self, wish: &Wish, answer: &Answer, persona: &Persona) {
        let Some(reservation) = answer.reservation.clone() else {
            return;
        };
        let units = wish.lines.iter().map(|line| u64::from(line.quantity)).sum::<u64>();
        self.crowd.count_win();
        self.won += 1;
        let held = Held { user: wish.user.clone(), reservation };
        if persona.sending == Sending::TwiceInARow || persona.repeats {
            self.same_again(wish, answer.clone()).await;
        }
        if persona.misuses {
            self.misuse(wish).await;
        }
        if persona.looks {
            self.look(&held).await;
        }
        match persona.ending {
            Ending::Cancels => {
                self.cancelled += 1;
                if !self.cancel(&held, persona.repeats).await {
                    self.units += units;
                }
                return;
            }
            Ending::PaysAtOnce if self.desk.is_some() => {
                let payment = Payment { held, repeats: persona.repeats };
                if let Some(desk) = &self.desk {
                    // A desk closes only when the crowd is over.
                    drop(desk.send(payment).await);
                }
            }
            Ending::PaysAtOnce | Ending::Waits => self.standing.push(held),
        }
        self.units += units;
    }

    /// Asks once more with the same key: the answer has to be a replay, the same to the byte.
    async fn same_again(&mut self, wish: &Wish, first: Answer) -> Answer {
        let again = self.insist(Question::Reserve(wish)).await;
        let shared = self.crowd.plan.shared;
        match again.next() {
            Next::Granted if !again.replayed && !shared => {
                self.strange(wish, "asked again: not marked as a replay");
            }
            Next::Granted | Next::Again => {}
            Next::Refused if shared => {}
            Next::Refused => {
                self.strange(wish, &format!("asked again after a 201: {:?}", again.seen));
            }
        }
        if again.next() == Next::Granted {
            self.compare(wish, &first, &again);
        }
        first
    }

    fn compare(&self, wish: &Wish, one: &Answer, other: &Answer) {
        if one.reservation != other.reservation {
            let ids = format!("{:?} and {:?}", one.reservation, other.reservation);
            self.strange(wish, &format!("two reservations for one key: {ids}"));
        } else if one.body != other.body {
            self.strange(wish, "a replay with another body");
        }
    }

    /// The key with another body has to be refused as just that.
    async fn misuse(&mut self, wish: &Wish) {
        let other = wish.misused(&self.crowd.plan);
        let answer = self.insist(Question::Misuse(&other)).await;
        let right = Seen::No("idempotency-key-reused".into());
        if answer.next() != Next::Again && answer.seen != right {
            self.strange(wish, &format!("key reused with another body: {:?}", answer.seen));
        }
    }

    /// The owner sees the reservation at once; a stranger never does.
    async fn look(&mut self, held: &Held) {
        let stranger = Held { user: format!("{}-stranger", held.user).into(), ..held.clone() };
        for (who, right) in [(held, Seen::Ok), (&stranger, Seen::No("not-found".into()))] {
            let answer = self.insist(Question::Look(who)).await;
            if answer.next() != Next::Again && answer.seen != right {
                let what = format!("{} reads {}: {:?}", who.user, who.reservation, answer.seen);
                self.crowd.anomalies.report(what);
            }
        }
    }

    /// Cancels, and maybe once more. Whether the units went back.
    async fn cancel(&mut self, held: &Held, repeats: bool) -> bool {
        let first = self.insist(Question::Cancel(held)).await;
        if first.next() == Next::Granted && repeats {
            let again = self.insist(Question::CancelAgain(held)).await;
            if again.next() == Next::Refused {
                let what = format!("{} cancelled twice: {:?}", held.reservation, again.seen);
                self.crowd.anomalies.report(what);
            }
        }
        // A hold may have run out meanwhile, where they are short.
        if first.next() == Next::Refused && first.seen != Seen::No("reservation-expired".into()) {
            let what = format!("{} could not be cancelled: {:?}", held.reservation, first.seen);
            self.crowd.anomalies.report(what);
        }
        first.next() == Next::Granted
    }

    async fn insist(&mut self, question: Question<'_>) -> Answer {
        insist(&self.crowd, &mut self.client, question, &mut self.rng).await
    }

    fn strange(&self, wish: &Wish, what: &str) {
        self.crowd.anomalies.report(format!("{} with key {}: {what}", wish.user, wish.key));
    }
}
