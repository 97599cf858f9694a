//! Promotions that continue: a higher rung goes on from the lower one's checkpoint.

use serde_json::json;

use crate::Search;
use crate::outcomes::check_equal;

#[test]
fn rungs_that_continue_equal_one_training_with_the_same_cycles() {
    let changes = json!({ "promotion": "continue", "method": "hyperband" });
    let configuration = json!({
        "nr_residual_blocks_1": 1, "nr_residual_blocks_2": 1, "nr_residual_blocks_3": 1,
        "initial_filters": 5, "res_branches_1": 2, "batch_size": 64, "learning_rate": 0.1,
        "mixup_alpha": 0.3,
    });
    let in_rungs = Search::new(&changes);
    for rung in 0..3 {
        let job = in_rungs.offer_continued(4, rung, &configuration);
        let log = in_rungs.work();
        let expected =
            (rung > 0).then(|| format!("goes on from checkpoint c000004-r{}-a1", rung - 1));
        match expected {
            Some(expected) => assert!(log.contains(&expected), "{log}"),
            None => assert!(!log.contains("goes on from"), "{log}"),
        }
        // 1,350 images: 21 steps of 64 an epoch, those of the rungs below included.
        let steps = in_rungs.result(job).measures["steps"];
        assert_eq!(steps, [21.0, 63.0, 189.0][usize::from(rung)]);
    }
    // The same job without the checkpoints of the rungs below trains from the start, with the same cycles.
    let at_once = Search::new(&changes);
    let job = at_once.offer_continued(4, 2, &configuration);
    assert!(!at_once.work().contains("goes on from"));
    check_equal(&in_rungs, &at_once, job);
    // The curve has the losses at which the lower rungs ended.
    let curve = at_once.result(job).curve;
    for rung in 0..3 {
        let end = [1.0, 3.0, 9.0][usize::from(rung)];
        let point = curve.iter().find(|point| point.spent == end).unwrap();
        assert_eq!(point.loss, Some(in_rungs.loss(job.configuration.job(rung))));
    }
    // With the cycles of a training from scratch it is another one.
    let scratch = Search::new(&json!({}));
    scratch.offer(4, 2, &configuration);
    scratch.work();
    assert_ne!(scratch.result(job).curve, curve);
}

#[test]
fn a_lower_rungs_weights_can_be_exported_while_they_are_kept() {
    let search = Search::new(&json!({ "promotion": "continue", "method": "hyperband" }));
    let job = search.offer_continued(
        0,
        0,
        &json!({ "initial_filters": 4, "nr_residual_blocks_1": 1 }),
    );
    search.work();
    let export = || {
        let file = search.beside("weights.safetensors");
        let mut command = search.trainer("export");
        command
            .args(["c000000", "--out"])
            .arg(file)
            .output()
            .unwrap()
    };
    assert!(export().status.success());
    search
        .directory
        .drop_checkpoints(job.configuration, None)
        .unwrap();
    let refused = export();
    assert_eq!(refused.status.code(), Some(3));
    assert!(crate::said(&refused).contains("the weights of c000000-r0 were not kept"));
}
