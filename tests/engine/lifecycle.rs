//! The queue's rules in every order: two workers that crash, stall and wake up late, clocks that differ, a cancellation.
//!
//! The model checker tries every sequence of a small world's events on the functions that the store applies.

use fewstep::lifecycle::{Ending, Millis, Policy, State, Status};
use stateright::{Checker, Model, Property};

const POLICY: Policy = Policy {
    lease: 2,
    attempts: 3,
    backoff: 1,
};
const LAST_TICK: Millis = 9;
const RELEASES: u8 = 1;
/// What a participant's clock may differ by.
const SKEWS: [Millis; 3] = [-1, 0, 1];

/// Everything that can differ between two moments.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    now: Millis,
    job: Status,
    /// Epoch of the claim each worker believes in, however old.
    workers: [Option<i64>; 2],
    /// Results and failures that were written down.
    effects: u8,
    /// The job as it ended.
    ended: Option<Status>,
    releases: u8,
    has_crashed: bool,
    was_running_when_canceled: bool,
    late_result_refused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Tick,
    Claim(usize, Millis),
    Beat(usize, Millis),
    Finish(usize, Ending),
    Release(usize),
    Crash(usize),
    Sweep(Millis),
    Cancel,
}

struct Queue;

impl Model for Queue {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            now: 0,
            job: Status::accepted(0),
            workers: [None; 2],
            effects: 0,
            ended: None,
            releases: 0,
            has_crashed: false,
            was_running_when_canceled: false,
            late_result_refused: false,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Event>) {
        actions.push(Event::Cancel);
        if world.now < LAST_TICK {
            actions.push(Event::Tick);
        }
        actions.extend(SKEWS.map(Event::Sweep));
        for worker in 0..world.workers.len() {
            if world.workers[worker].is_none() {
                actions.extend(SKEWS.map(|skew| Event::Claim(worker, skew)));
                continue;
            }
            actions.extend(SKEWS.map(|skew| Event::Beat(worker, skew)));
            actions.extend([
                Event::Finish(worker, Ending::Succeeded),
                Event::Finish(worker, Ending::Failed),
                Event::Finish(worker, Ending::Canceled),
                Event::Crash(worker),
            ]);
            if world.releases < RELEASES {
                actions.push(Event::Release(worker));
            }
        }
    }

    fn next_state(&self, before: &World, event: Event) -> Option<World> {
        let mut world = before.clone();
        let epoch = |worker: usize| before.workers[worker].unwrap_or_default();
        let changed = match event {
            Event::Tick => {
                world.now += 1;
                Ok(world.job.clone())
            }
            Event::Claim(worker, skew) => {
                let claimed = world.job.claim("w", world.now + skew, &POLICY);
                if let Ok(job) = &claimed {
                    world.workers[worker] = Some(job.epoch);
                }
                claimed
            }
            Event::Beat(worker, skew) => world.job.beat(epoch(worker), world.now + skew, &POLICY),
            Event::Finish(worker, ending) => {
                world.workers[worker] = None;
                world.job.finish(epoch(worker), ending)
            }
            Event::Release(worker) => {
                world.workers[worker] = None;
                world.releases += 1;
                world.job.release(epoch(worker), world.now)
            }
            Event::Crash(worker) => {
                world.workers[worker] = None;
                world.has_crashed = true;
                Ok(world.job.clone())
            }
            Event::Sweep(skew) => world.job.expire(world.now + skew, &POLICY),
            Event::Cancel => {
                world.was_running_when_canceled |= world.job.state == State::Running;
                world.job.cancel()
            }
        };
        match changed {
            Ok(job) => {
                if job.state.is_final() && !before.job.state.is_final() {
                    world.effects += 1;
                    world.ended = Some(job.clone());
                }
                world.job = job;
            }
            Err(_) => world.late_result_refused |= matches!(event, Event::Finish(..)),
        }
        (world != *before).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "a job ends once, and stays as it ended",
                |_, world: &World| {
                    world.effects == u8::from(world.job.state.is_final())
                        && world.ended.as_ref().is_none_or(|ended| *ended == world.job)
                },
            ),
            Property::always("attempts stay within the policy", |_, world: &World| {
                (0..=POLICY.attempts).contains(&world.job.attempts)
            }),
            Property::always(
                "a job has a holder and a lease exactly while it runs",
                |_, world: &World| {
                    let is_running = world.job.state == State::Running;
                    is_running == world.job.lease_until.is_some()
                        && is_running == world.job.worker.is_some()
                },
            ),
            Property::always("no two workers hold the job", |_, world: &World| {
                let holds = |worker: &&Option<i64>| **worker == Some(world.job.epoch);
                world.workers.iter().filter(holds).count() <= 1
            }),
            Property::always(
                "the job can always be brought to an end",
                |_, world: &World| rescued(world).state.is_final(),
            ),
            Property::sometimes("it succeeds after a crash", |_, world: &World| {
                world.has_crashed && world.job.state == State::Succeeded
            }),
            Property::sometimes("it is given up after its attempts", |_, world: &World| {
                world.job.state == State::Failed && world.job.attempts == POLICY.attempts
            }),
            Property::sometimes("it is canceled while it runs", |_, world: &World| {
                world.was_running_when_canceled && world.job.state == State::Canceled
            }),
            Property::sometimes(
                "a result that comes too late is refused",
                |_, world: &World| world.late_result_refused,
            ),
        ]
    }
}

/// What a sweep and one healthy worker make of the job, all others having died.
fn rescued(world: &World) -> Status {
    let later = world.now + 100;
    let swept = world.job.expire(later, &POLICY);
    let waiting = swept.unwrap_or_else(|_| world.job.clone());
    match waiting.claim("rescuer", later + 100, &POLICY) {
        Ok(held) => held.finish(held.epoch, Ending::Succeeded).unwrap(),
        Err(_) => waiting,
    }
}

#[test]
fn the_queues_rules_hold_in_every_order() {
    let checker = Queue.checker().spawn_bfs().join();
    assert!(
        checker.unique_state_count() > 10_000,
        "the world is too small to mean anything"
    );
    checker.assert_properties();
}
