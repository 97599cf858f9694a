use super::*;

#[test]
fn ticks_are_round_and_few() {
    assert_eq!(
        Scale::linear(0.0, 1.0).ticks(5),
        [0.0, 0.2, 0.4, 0.600_000_000_000_000_1, 0.8, 1.0]
    );
    assert_eq!(Scale::log(1e-3, 1.0).ticks(5), [0.001, 0.01, 0.1, 1.0]);
    assert_eq!(Scale::log(1e-9, 1.0).ticks(5).len(), 5);
    assert_eq!(Scale::log(2.0, 30.0).ticks(5), [2.0, 5.0, 10.0, 20.0]);
    for (low, high) in [(-3.7, 12.9), (1e9, 1.1e9), (0.0, 1e-12), (5.0, 5.0)] {
        let ticks = Scale::linear(low, high).ticks(6);
        assert!((2..=8).contains(&ticks.len()), "{ticks:?}");
    }
}

#[test]
fn scales_fit_what_they_are_given() {
    assert_eq!(Scale::fitting([]), None);
    assert_eq!(Scale::fitting([f64::NAN]), None);
    assert!(Scale::fitting([1.0, 1000.0]).unwrap().is_log());
    assert!(!Scale::fitting([-1.0, 1000.0]).unwrap().is_log());
    let one = Scale::fitting([3.0]).unwrap();
    assert!((one.place(3.0) - 0.5).abs() < 1e-9);
    for extreme in [[f64::MIN, f64::MAX], [f64::MIN_POSITIVE, f64::MAX]] {
        if let Some(scale) = Scale::fitting(extreme) {
            assert!(scale.ticks(5).iter().all(|tick| tick.is_finite()));
        }
    }
}

#[test]
fn words_are_escaped_in_drawings() {
    let mut scene = Scene::new(100.0, 50.0, "a \"b\" <c>");
    scene.words(
        (1.0, 2.0),
        "<script>alert('x')</script>\u{0}&",
        Ink::Text,
        Anchor::Start,
    );
    scene.rectangle((0.0, 0.0), (1.0, 1.0), Ink::Bad, 0.5, Some("<i>".into()));
    scene.dots([(1.0, 2.0), (3.0, 4.25)], Ink::Series(7), 3.0, 1.0);
    insta::assert_snapshot!(format!(
        "{}{}",
        scene.svg(Theme::Page),
        scene.svg(Theme::Light)
    ));
}

#[test]
fn no_name_of_an_axis_is_cut_in_a_narrow_drawing() {
    let mut scene = Scene::new(360.0, 200.0, "narrow");
    let frame = Frame {
        from: (190.0, 20.0),
        to: (314.0, 160.0),
        x: Scale::linear(0.0, 1.0),
        y: Scale::linear(0.0, 1.0),
    };
    frame.draw_x_axis(&mut scene, "share of the variance (%)");
    let svg = scene.svg(Theme::Page);
    assert!(svg.contains("share of the variance (%)"), "{svg}");
}

#[test]
fn scales_reach_from_the_smallest_to_the_largest_number() {
    for scale in [
        Scale::log(1e-308, 1e308),
        Scale::log_with_room(1e-308, 1e308),
        Scale::linear(-1e308, 1e308),
    ] {
        let places = [-1e308, 1e-308, 1.0, 1e308].map(|x| scale.place(x));
        assert!(places.is_sorted(), "{places:?}");
        assert!((places[3] - places[0]).abs() > 0.8, "{places:?}");
        let ticks = scale.ticks(5);
        assert!((2..=12).contains(&ticks.len()), "{ticks:?}");
        assert!(ticks.iter().all(|tick| tick.is_finite()), "{ticks:?}");
    }
}
