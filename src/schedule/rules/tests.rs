//! Rules against the values their own tools print, and their contract on every kind of noise.

use super::*;
use crate::schedule::{NoiseSpec, VpTable};
use proptest::prelude::*;

fn stable_diffusion() -> NoiseSchedule {
    NoiseSchedule::new(&NoiseSpec::Vp(VpTable::scaled_linear(0.00085, 0.012, 1000))).unwrap()
}

fn flow(shift: f64) -> NoiseSchedule {
    NoiseSchedule::new(&NoiseSpec::Flow { shift, steps: 1000 }).unwrap()
}

fn sigmas(noise: &NoiseSchedule, name: &str, n: usize) -> Vec<f64> {
    let native = find(name).unwrap().native(noise, n).unwrap();
    native.iter().map(|&lambda| noise.sigma(lambda)).collect()
}

fn timesteps(noise: &NoiseSchedule, name: &str, n: usize) -> Vec<f64> {
    let native = find(name).unwrap().native(noise, n).unwrap();
    native
        .iter()
        .map(|&lambda| noise.timestep(noise.t(lambda)))
        .collect()
}

fn assert_close(got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{got:?} not {want:?}");
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).abs() <= tolerance, "{got:?} not {want:?}");
    }
}

#[test]
fn curves_give_the_values_their_tools_print() {
    let sd = stable_diffusion();
    assert_close(
        &sigmas(&sd, "karras", 8),
        &[
            14.6146, 7.9029, 4.0277, 1.9104, 0.8289, 0.3211, 0.1072, 0.0292,
        ],
        1e-4,
    );
    assert_close(
        &sigmas(&sd, "exponential", 4),
        &[14.6146, 1.84, 0.2317, 0.0292],
        1e-4,
    );
    assert_close(
        &sigmas(&sd, "kl_optimal", 4),
        &[14.6146, 1.5971, 0.5729, 0.0292],
        1e-4,
    );
    let unit = flow(1.0);
    // Their lists start at sigma 1, where log-SNR is infinite; here they start at the end of the model's range.
    assert_close(
        &sigmas(&unit, "linear_quadratic", 10),
        &[
            0.999, 0.995, 0.99, 0.985, 0.98, 0.975, 0.932, 0.813, 0.618, 0.347,
        ],
        1.1e-3,
    );
    assert_close(
        &sigmas(&unit, "bong_tangent", 8),
        &[0.999, 0.9713, 0.9294, 0.8629, 0.7443, 0.5, 0.2131, 0.0696],
        1.1e-3,
    );
}

#[test]
fn lists_from_one_to_zero_are_their_tools() {
    assert_close(
        &curves::bong_tangent(4),
        &[1.0, 0.8572, 0.5, 0.1175, 0.0],
        5e-5,
    );
    assert_close(
        &curves::linear_quadratic(6),
        &[1.0, 0.991_667, 0.983_333, 0.975, 0.861_111, 0.536_111, 0.0],
        1e-6,
    );
}

#[test]
fn spacings_give_diffusers_and_comfyui_timesteps() {
    let sd = stable_diffusion();
    let spacings: [(&str, &[f64]); 5] = [
        ("uniform_t_leading", &[801.0, 601.0, 401.0, 201.0, 1.0]),
        ("uniform_t_trailing", &[999.0, 799.0, 599.0, 399.0, 199.0]),
        ("uniform_t_linspace", &[999.0, 749.25, 499.5, 249.75, 0.0]),
        ("sgm_uniform", &[999.0, 799.2, 599.4, 399.6, 199.8]),
        ("simple", &[999.0, 799.0, 599.0, 399.0, 199.0]),
    ];
    for (name, want) in spacings {
        assert_close(&timesteps(&sd, name, 5), want, 1e-6);
    }
    assert_close(
        &timesteps(&sd, "beta", 4),
        &[999.0, 823.0, 500.0, 176.0],
        1e-6,
    );
    let eight = [999.0, 942.0, 823.0, 670.0, 500.0, 329.0, 176.0, 57.0];
    assert_close(&timesteps(&sd, "beta", 8), &eight, 1e-6);
}

#[test]
fn tables_are_exact_at_their_own_steps_and_only_on_their_own_model() {
    let sd = stable_diffusion();
    let ays = timesteps(&sd, "ays_sd15", 10);
    let want = [
        999.0, 850.0, 736.0, 645.0, 545.0, 455.0, 343.0, 233.0, 124.0, 24.0,
    ];
    assert_close(&ays, &want, 0.01);
    let gits = sigmas(&sd, "gits", 5);
    assert_close(
        &gits,
        &[14.614_64, 2.844_85, 1.241_53, 0.595_16, 0.250_53],
        1e-5,
    );
    assert!(find("gits").unwrap().native(&flow(1.0), 5).is_none());
    assert!(find("ays_svd").unwrap().native(&sd, 10).is_none());
    assert!(find("oss_flux").unwrap().native(&sd, 10).is_none());
    assert_close(
        &sigmas(&flow(1.0), "oss_flux", 10)[1..4],
        &[0.9886, 0.9819, 0.975],
        1e-9,
    );
}

fn any_noise() -> impl Strategy<Value = NoiseSchedule> {
    let sd = VpTable::scaled_linear(0.00085, 0.012, 1000);
    let specs = vec![
        NoiseSpec::Vp(sd.clone()),
        NoiseSpec::Vp(sd.zero_terminal_snr()),
        NoiseSpec::Vp(VpTable::squaredcos_cap_v2(1000)),
        NoiseSpec::VpSde {
            beta_d: 19.9,
            beta_min: 0.1,
            epsilon_s: 1e-3,
        },
        NoiseSpec::Edm {
            sigma_min: 0.002,
            sigma_max: 700.0,
        },
        NoiseSpec::Flow {
            shift: 3.0,
            steps: 1000,
        },
    ];
    prop::sample::select(specs).prop_map(|spec| NoiseSchedule::new(&spec).unwrap())
}

proptest! {
    #[test]
    fn every_rule_keeps_its_contract(
        noise in any_noise(),
        n in 1_usize..=64,
        t_max in 0.9_f64..=1.0,
        t_min in 0.005_f64..=0.1,
    ) {
        let (low, high) = noise.t_range();
        let (t_max, t_min) = (t_max.min(high), t_min.max(low));
        for rule in RULES {
            if let Some(native) = rule.native(&noise, n) {
                prop_assert_eq!(native.len(), n);
                prop_assert!(strictly_ascending(&native), "{} {:?}", rule.name, native);
                prop_assert!(native[0] >= noise.lambda(high) - 1e-9);
                prop_assert!(native[n - 1] <= noise.lambda(low) + 1e-9);
            }
            if let Some(matched) = rule.matched(&noise, n, t_max, t_min) {
                prop_assert_eq!(matched.len(), n);
                prop_assert_eq!(matched[0], noise.lambda(t_max));
                prop_assert_eq!(matched[n - 1], noise.lambda(t_min));
            }
        }
    }

    #[test]
    fn curves_and_spacings_apply_to_every_model(noise in any_noise(), points in 2_usize..=64) {
        let (low, high) = noise.t_range();
        for rule in RULES {
            if !matches!(rule.kind, Kind::Table(_)) {
                prop_assert!(
                    rule.matched(&noise, points, high, low.max(0.001)).is_some(),
                    "{} at {} points", rule.name, points
                );
            }
        }
    }
}
