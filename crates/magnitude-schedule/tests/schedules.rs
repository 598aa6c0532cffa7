//! Schedules: both ends, and what holds for all of them.
#![allow(clippy::unwrap_used, reason = "tests")]

use magnitude_schedule::{Interval, PolynomialSchedule, SHAPES, Schedule, ShapeChoice};
use proptest::prelude::*;

fn schedule(text: &str, interval: Interval) -> Schedule {
    Schedule::new(text.parse().unwrap(), interval)
}

/// Figure 1 of Zhu and Gupta: 90 % in 100 steps.
#[test]
fn the_paper_s_curve() {
    let schedule = PolynomialSchedule::new(0.0, 0.9, 0, 100, 1).unwrap();
    for (step, expected) in [(24, 0.505), (45, 0.750), (70, 0.876), (100, 0.900)] {
        let found = schedule.sparsity(step);
        assert!((found - expected).abs() < 5e-4, "{step}: {found}");
    }
}

#[test]
fn both_ends_are_exact() {
    for shape in SHAPES {
        let schedule = schedule(shape.name, Interval::new(0.1, 0.9, 100, 205, 10).unwrap());
        assert_eq!(schedule.sparsity(0), 0.1, "{}", shape.name);
        assert_eq!(schedule.sparsity(99), 0.1, "{}", shape.name);
        let at_begin = match shape.name {
            "constant" | "one-shot" => 0.9,
            _ => 0.1,
        };
        assert!((schedule.sparsity(100) - at_begin).abs() < 1e-15, "{}", shape.name);
        // Between updates nothing changes, and the last update is at the end.
        assert_eq!(schedule.sparsity(119), schedule.sparsity(110), "{}", shape.name);
        assert_eq!(schedule.sparsity(204), schedule.sparsity(200), "{}", shape.name);
        assert_eq!(schedule.sparsity(205), 0.9, "{}", shape.name);
        assert_eq!(schedule.sparsity(u64::MAX), 0.9, "{}", shape.name);
    }
}

#[test]
fn shapes_differ_as_they_should() {
    let interval = Interval::new(0.0, 0.75, 0, 100, 1).unwrap();
    let at = |name: &str| schedule(name, interval).sparsity(50);
    let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
    assert!(near(at("linear"), 0.375));
    assert!(near(at("polynomial:exponent=1"), 0.375));
    assert!(near(at("polynomial"), 0.75 * (1.0 - 0.125)));
    assert!(near(at("exponential"), 0.5));
    assert_eq!(at("constant"), 0.75);
    assert_eq!(schedule("one-shot", interval).interval().updates().count(), 1);
    let polynomial = PolynomialSchedule::new(0.0, 0.75, 0, 100, 1).unwrap().exponent(2.0).unwrap();
    assert_eq!(Schedule::from(polynomial), schedule("polynomial:exponent=2", interval));
}

#[test]
fn wrong_numbers_are_refused() {
    for (initial, target, begin, end, frequency) in [
        (0.0, 1.0, 0, 1, 1),
        (-0.1, 0.5, 0, 1, 1),
        (0.6, 0.5, 0, 1, 1),
        (0.0, f64::NAN, 0, 1, 1),
        (0.0, 0.5, 2, 1, 1),
        (0.0, 0.5, 0, 1, 0),
    ] {
        let error = PolynomialSchedule::new(initial, target, begin, end, frequency).unwrap_err();
        assert_eq!(error.code(), "E0430");
    }
    assert!(PolynomialSchedule::new(0.0, 0.5, 0, 1, 1).unwrap().exponent(0.0).is_err());
    for text in ["cubic", "linear:exponent=2", "polynomial:power=2", "polynomial:exponent=x"] {
        assert_eq!(text.parse::<ShapeChoice>().unwrap_err().code(), "E0430", "{text}");
    }
}

proptest! {
    #[test]
    fn sparsity_never_falls_and_stays_within_its_ends(
        shape in 0..SHAPES.len(),
        (a, b) in (0.0..0.99, 0.0..0.99),
        (begin, length, frequency) in (0_u64..50, 0_u64..200, 1_u64..40),
    ) {
        let (initial, target) = (f64::min(a, b), f64::max(a, b));
        let interval = Interval::new(initial, target, begin, begin + length, frequency).unwrap();
        let schedule = schedule(SHAPES[shape].name, interval);
        let mut before = initial;
        for step in 0..begin + length + 2 {
            let now = schedule.sparsity(step);
            prop_assert!(now >= before && now <= target, "{step}: {before} {now}");
            // It changes at updates only.
            prop_assert!(now == before || interval.updates().any(|update| update == step));
            before = now;
        }
        prop_assert_eq!(before, target);
    }
}
