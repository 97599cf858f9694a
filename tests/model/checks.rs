//! The checks, and the bugs that they must find.

use std::time::{Duration, Instant};

use shared::search::Promotion;

use crate::explore::{Extent, Scene};
use crate::programs::Role::{self, JobsThatAreOpen, OnePass, TwoTurns};
use crate::programs::search;
use crate::run::{Calm, Interleaving, Run, fresh, whole};
use crate::tree::{Mutant, Tree};
use crate::world::Setting;

/// A filesystem that shows everything at once, and one whose clients believe for a while what they saw.
const SETTINGS: [Setting; 2] = [LOCAL, NFS];
const LOCAL: Setting = Setting {
    belief: None,
    is_last_first: false,
};
const NFS: Setting = Setting {
    belief: Some(Duration::from_secs(2)),
    is_last_first: false,
};
/// The same, where what several threads make at the same time comes in the other order.
const LAST_FIRST: [Setting; 2] = [
    Setting {
        is_last_first: true,
        ..LOCAL
    },
    Setting {
        is_last_first: true,
        ..NFS
    },
];

/// Three jobs in two rungs.
fn small(setting: Setting) -> Scene {
    let (scene, calm) = Scene::new(fresh(&search(1, 2, 2.5)), setting);
    assert_eq!(calm.violations, [""; 0]);
    assert_eq!(scene.expected.len(), 3);
    scene
}

/// So many jobs that schedulers make several records together.
fn several(setting: Setting) -> Scene {
    let (scene, calm) = Scene::new(fresh(&search(3, 2, 2.5)), setting);
    assert_eq!(calm.violations, [""; 0]);
    scene
}

/// One job, which nobody has claimed.
fn open() -> Scene {
    let mut run = Run::new(fresh(&search(1, 1, 0.0)), NFS, &[TwoTurns, OnePass], false);
    run.go(&mut Calm);
    let tree: Tree = run.world.tree();
    Scene::new(tree, NFS).0
}

fn tell(what: &str, start: Instant, extent: Result<Extent, String>) -> Extent {
    let extent = extent.unwrap_or_else(|complaint| panic!("{what}: {complaint}"));
    let seconds = start.elapsed().as_secs_f64();
    shared::cli::report(&format!("{what}: {extent:?} in {seconds:.1} s"));
    extent
}

fn interleave(scene: &Scene, what: &str, roles: &[Role], preemptions: u32, faults: u32) -> Extent {
    let bounds = Interleaving {
        preemptions,
        faults,
    };
    let start = Instant::now();
    let what = format!("{what}, {preemptions} preemptions, {faults} faults");
    tell(&what, start, scene.interleave(roles, bounds, 10_000_000))
}

#[test]
fn a_search_survives_each_disturbance_of_each_call() {
    for setting in SETTINGS {
        let start = Instant::now();
        let extent = tell("one", start, small(setting).disturb(1, (0, 1)));
        assert!(extent.is_complete && extent.runs > 500);
    }
}

#[test]
fn a_search_survives_many_disturbances_by_chance() {
    for setting in SETTINGS {
        let start = Instant::now();
        tell("chance", start, small(setting).by_chance(0..150));
    }
}

/// A scene in which somebody wishes for something, and what comes of it undisturbed.
fn with_wish(wish: Role, setting: Setting) -> Scene {
    let scene = small(setting);
    let calm = whole(&scene.tree, setting, &mut Calm, None, false, Some(wish));
    assert_eq!(calm.violations, [""; 0]);
    Scene {
        wish: Some(wish),
        expected: calm.losses,
        ..scene
    }
}

/// One disturbance of each call in this part of the calls, and many by chance.
fn disturb(what: &str, scene: &Scene, part: (usize, usize)) {
    let start = Instant::now();
    tell(&format!("one, {what}"), start, scene.disturb(1, part));
    let start = Instant::now();
    tell(&format!("chance, {what}"), start, scene.by_chance(0..50));
}

#[test]
fn a_retry_is_heard_whatever_happens_to_whom() {
    for setting in SETTINGS {
        let scene = Scene {
            wish: Some(Role::Retry),
            ..small(setting)
        };
        disturb("with a retry", &scene, (0, 3));
    }
}

#[test]
fn an_extension_is_heard_whatever_happens_to_whom() {
    for setting in SETTINGS {
        // What comes out is what comes of a search with as many brackets from the start.
        let (whole, _) = Scene::new(fresh(&search(2, 2, 2.5)), setting);
        let scene = Scene {
            wish: Some(Role::Extend),
            expected: whole.expected,
            ..small(setting)
        };
        assert!(scene.expected.len() > 3);
        disturb("extended", &scene, (0, 3));
    }
}

#[test]
fn a_larger_largest_budget_is_heard_whatever_happens_to_whom() {
    for setting in SETTINGS {
        let (before, scene) = (small(setting).expected, with_wish(Role::Raise, setting));
        // One goes on beyond [2,1], and there is a bracket [4,2,1].
        assert_eq!(scene.expected.len(), before.len() + 1 + 7);
        assert_eq!(scene.expected.keys().filter(|job| job.rung == 2).count(), 2);
        disturb("raised", &scene, (0, 7));
    }
}

#[test]
fn a_given_configuration_is_tried_whatever_happens_to_whom() {
    for setting in SETTINGS {
        let (before, scene) = (small(setting).expected, with_wish(Role::Give, setting));
        assert_eq!(scene.expected.len(), before.len() + 1);
        disturb("with a gift", &scene, (0, 3));
    }
}

#[test]
fn what_breaks_a_constraint_is_never_promoted_whatever_happens_to_whom() {
    for setting in SETTINGS {
        let mut file = search(2, 2, 2.5);
        // Between what the configurations of this search have.
        file.constraints = serde_json::from_value(serde_json::json!([
            { "measure": "true_regret", "max": 40 }
        ]))
        .expect("a constraint");
        let (scene, calm) = Scene::new(fresh(&file), setting);
        assert_eq!(calm.violations, [""; 0]);
        assert!(calm.num_infeasible > 0 && calm.num_infeasible < calm.losses.len() - 1);
        let start = Instant::now();
        tell("one, with a constraint", start, scene.disturb(1, (0, 7)));
        let start = Instant::now();
        tell("chance, with a constraint", start, scene.by_chance(0..50));
    }
}

#[test]
fn a_search_whose_trainings_are_stopped_survives_disturbances() {
    for setting in SETTINGS {
        let mut file = search(3, 2, 2.5);
        file.promotion = Promotion::Stopping;
        // The first search of which some trainings are stopped, though three begin at once.
        let (scene, calm) = (0..50)
            .map(|seed| {
                file.seed = seed;
                Scene::new(fresh(&file), setting)
            })
            .find(|(_, calm)| calm.num_stopped > 0)
            .expect("there is one");
        assert_eq!(calm.violations, [""; 0]);
        // Three brackets of two.
        assert_eq!(calm.losses.len(), 6);
        let start = Instant::now();
        tell("one, with stopping", start, scene.disturb(1, (0, 7)));
        let start = Instant::now();
        tell("chance, with stopping", start, scene.by_chance(0..50));
    }
}

#[test]
fn a_search_by_two_objectives_survives_disturbances() {
    for setting in SETTINGS {
        let mut file = search(2, 2, 2.5);
        file.objectives = vec!["loss".to_owned(), "true_regret".to_owned()];
        let (scene, calm) = Scene::new(fresh(&file), setting);
        assert_eq!(calm.violations, [""; 0]);
        let start = Instant::now();
        tell("one, with two objectives", start, scene.disturb(1, (0, 7)));
        let start = Instant::now();
        tell("chance, with two objectives", start, scene.by_chance(0..50));
    }
}

#[test]
fn records_that_are_made_together_come_in_two_orders() {
    let published = |setting| {
        let scene = several(setting);
        let mut calls = whole(&scene.tree, setting, &mut Calm, None, true, None).trace;
        calls.retain(|call| call.contains(": link "));
        calls
    };
    assert_eq!(published(LOCAL), published(LOCAL));
    assert_ne!(published(LOCAL), published(LAST_FIRST[0]));
}

#[test]
fn a_search_with_records_made_together_survives_disturbances() {
    for setting in LAST_FIRST {
        let start = Instant::now();
        let scene = several(setting);
        tell("one", start, scene.disturb(1, (0, 7)));
        let start = Instant::now();
        tell("chance", start, scene.by_chance(0..100));
    }
}

#[test]
fn three_trainers_after_one_job_in_every_order_of_their_calls() {
    let extent = interleave(
        &open(),
        "three trainers",
        &[JobsThatAreOpen; 3],
        Interleaving::ANY,
        0,
    );
    assert!(extent.is_complete && extent.states > 500);
}

/// Two schedulers, of which each takes silent trainers' jobs back, and three trainers.
const FIVE: [Role; 5] = [
    TwoTurns,
    TwoTurns,
    JobsThatAreOpen,
    JobsThatAreOpen,
    JobsThatAreOpen,
];
/// These, and two samplers.
const SEVEN: [Role; 7] = [
    TwoTurns,
    TwoTurns,
    OnePass,
    OnePass,
    JobsThatAreOpen,
    JobsThatAreOpen,
    JobsThatAreOpen,
];

#[test]
fn all_programs_with_one_preemption_at_each_call() {
    let fresh = Scene::new(fresh(&search(1, 1, 0.0)), NFS).0;
    assert!(interleave(&fresh, "seven", &SEVEN, 1, 0).is_complete);
    assert!(interleave(&open(), "five", &FIVE, 1, 1).is_complete);
}

#[test]
#[ignore = "half an hour: many disturbances of thousands of searches"]
fn the_long_form_by_chance() {
    for setting in SETTINGS {
        let start = Instant::now();
        tell("chance", start, small(setting).by_chance(1_000..6_000));
    }
}

#[test]
#[ignore = "half an hour: two disturbances of a search, every fiftieth place for the first one"]
fn the_long_form_with_two_disturbances() {
    for setting in SETTINGS {
        let start = Instant::now();
        tell("two", start, small(setting).disturb(2, (0, 50)));
    }
}

#[test]
#[ignore = "half an hour: two preemptions of five programs, as far as so many runs come"]
fn the_long_form_with_two_preemptions() {
    let bounds = Interleaving {
        preemptions: 2,
        faults: 0,
    };
    let start = Instant::now();
    tell("five", start, open().interleave(&FIVE, bounds, 100_000));
}

#[test]
#[ignore = "some minutes: each disturbance of each call, and thousands by chance"]
fn the_long_form_with_records_made_together() {
    for setting in LAST_FIRST {
        let scene = several(setting);
        let start = Instant::now();
        tell("one", start, scene.disturb(1, (0, 1)));
        let start = Instant::now();
        tell("chance", start, scene.by_chance(1_000..3_000));
    }
}

/// What a check says of a filesystem or protocol with this bug.
fn finds(mutant: Mutant, setting: Setting) -> bool {
    let mut scene = small(setting);
    scene.tree.mutant = Some(mutant);
    scene.disturb(1, (0, 1)).is_err() || scene.by_chance(0..500).is_err()
}

#[test]
fn the_checks_find_a_publication_that_overwrites() {
    assert!(finds(Mutant::PublishOverwrites, NFS));
}

#[test]
fn the_checks_find_a_claim_that_copies() {
    assert!(finds(Mutant::ClaimCopies, NFS));
}

#[test]
fn the_checks_find_that_nobody_looks_for_results() {
    assert!(finds(Mutant::ResultsUnseen, LOCAL));
}

#[test]
fn the_checks_find_a_lease_that_ignores_heartbeats() {
    assert!(finds(Mutant::HeartbeatsUnseen, LOCAL));
}
