//! The paper's ablation of the spacing penalty, on Stable Diffusion's noise at NFE 4.

use crate::support::answer;
use fewstep::api::ScheduleDocument;
use serde_json::json;

fn searched(objective: &str, method: &str, gamma: f64) -> ScheduleDocument {
    answer(&json!({
        "model": "sd-v2.1", "solver": "unipc", "nfe": 4,
        "objective": objective, "method": method, "gamma": gamma,
    }))
}

fn has(document: &ScheduleDocument, code: &str) -> bool {
    document.warnings.iter().any(|w| w.code == code)
}

#[test]
fn the_midpoint_bound_collapses_without_the_penalty() {
    let free = searched("unipc-midpoint", "hso", 0.0);
    assert!(
        free.spacing.smallest.unwrap() < 1e-3,
        "{:?}",
        free.timesteps
    );
    assert!(has(&free, "collapsed"));
    let t: Vec<f64> = free.t.iter().copied().flatten().collect();
    assert!(
        t.windows(2).all(|pair| pair[0] > pair[1]),
        "still in order: {t:?}"
    );
    assert!(t[4] >= 0.01 && t[0] <= 1.0, "still in range: {t:?}");

    let penalised = searched("unipc-midpoint", "hso", 1e9);
    assert!(penalised.spacing.met, "{:?}", penalised.spacing);
    assert!(penalised.fitness.total < 1.32);
    assert!(free.fitness.objective < penalised.fitness.objective);
}

#[test]
fn the_other_objectives_do_not_collapse() {
    for objective in ["mep", "unipc-bound"] {
        let free = searched(objective, "hso", 0.0);
        let penalised = searched(objective, "hso", 1e9);
        assert!(
            free.spacing.smallest.unwrap() > 0.15,
            "{objective}: {:?}",
            free.timesteps
        );
        assert!((free.fitness.objective / penalised.fitness.objective - 1.0).abs() < 1e-6);
        assert!(!has(&free, "collapsed"));
    }
}

#[test]
fn constraints_keep_every_objective_apart() {
    for objective in ["mep", "unipc-bound", "unipc-midpoint"] {
        let document = searched(objective, "hso-constrained", 1e9);
        assert!(
            document.spacing.met && document.spacing.enforced,
            "{objective}"
        );
        assert!(document.fitness.penalty == 0.0);
    }
}

#[test]
fn the_bound_merges_points_only_in_its_long_form() {
    let at = |nfe: u32| {
        answer(
            &json!({"model": "sd-v2.1", "solver": "unipc", "nfe": nfe, "objective": "unipc-bound"}),
        )
    };
    let short = at(6);
    assert!(!short.spacing.enforced && has(&short, "spacing_not_met"));
    let long = at(8);
    assert!(long.spacing.enforced && long.spacing.met);
    assert!(has(&long, "objective_without_minimum"));
}
