use super::*;
use crate::hyperband::testing::{of_whole_numbers, search, search_with};
use crate::search::{MethodName, SearchFile};

#[test]
fn ids_are_dealt_to_brackets_in_turn() {
    let table = Table::new(&search(1, 9, 3)).unwrap();
    let place = |id| {
        let place = table.place(ConfigurationId(id));
        (place.bracket, place.rung)
    };
    assert_eq!(table.total(), 15);
    assert_eq!([place(0), place(8)], [(0, 0), (0, 0)]);
    assert_eq!([place(9), place(11)], [(1, 1), (1, 1)]);
    assert_eq!([place(12), place(14)], [(2, 2), (2, 2)]);
    assert_eq!([place(15), place(24)], [(3, 0), (4, 1)]);
    assert_eq!(table.expected_jobs(), [9, 6, 5]);
    let with = |brackets| {
        let search = search_with(1, 9, 3, |file| file.limit = Limit::Brackets(brackets));
        Table::new(&search).unwrap().expected_jobs()
    };
    assert_eq!(
        [with(1), with(2), with(4)],
        [[9, 3, 1], [9, 6, 2], [18, 9, 6]]
    );
}

#[test]
fn an_extended_table_is_that_of_a_search_with_the_larger_limit() {
    let with = |brackets| {
        Table::new(&search_with(1, 9, 3, |file| {
            file.limit = Limit::Brackets(brackets);
        }))
        .unwrap()
    };
    let mut table = with(2);
    let search = search(1, 9, 3);
    let mut extend = |limit| table.extend(&search, &more(Some(limit), None));
    extend(Limit::Brackets(3)).unwrap();
    assert!(extend(Limit::Configurations(3)).is_err());
    assert!(extend(Limit::Brackets(u32::MAX)).is_err());
    let whole = with(5);
    assert_eq!(table.expected_jobs(), whole.expected_jobs());
    for id in (0..whole.total()).map(ConfigurationId) {
        assert_eq!(table.place(id), whole.place(id));
    }
    assert_eq!(table.total(), whole.total());
}

fn more(limit: Option<Limit>, max_budget: Option<f64>) -> Extension {
    Extension {
        limit,
        max_budget,
        at: String::new(),
        program: String::new(),
    }
}

#[test]
fn a_larger_largest_budget_is_that_of_the_brackets_behind_it_and_of_the_best_of_those_before() {
    // [9,3,1] [3,1] [3]: five at 9 steps, of which one goes on.
    let search = search(1, 9, 3);
    let mut table = Table::new(&search).unwrap();
    assert_eq!((table.raised_top(), table.pools()), (None, vec![]));
    table.extend(&search, &more(None, Some(27.0))).unwrap();
    assert_eq!((table.raised_top(), table.total()), (Some(3), 15));
    assert_eq!(table.expected_jobs(), [9, 6, 5, 1]);
    // Those behind it: [27,9,3,1] [9,3,1] …, from rungs 0 and 1.
    let brackets = Some(Limit::Brackets(2));
    table.extend(&search, &more(brackets, None)).unwrap();
    assert_eq!(table.expected_jobs(), [36, 24, 11, 3]);
    let place = |id| {
        let place = table.place(ConfigurationId(id));
        (place.bracket, place.rung)
    };
    assert_eq!(
        [place(14), place(15), place(41), place(42), place(50)],
        [(2, 2), (3, 0), (3, 0), (4, 1), (4, 1)]
    );
    assert_eq!(table.sizes(4), [9, 3, 1]);
    let is_beyond = |bracket, rung| table.is_beyond_the_file(bracket, rung);
    assert_eq!(
        [is_beyond(2, 2), is_beyond(2, 3), is_beyond(3, 0)],
        [false, true, true]
    );
    // Once more by two rungs: the three at 27 steps, of which one goes on to 81 and 243.
    let pools = table.pools();
    table.extend(&search, &more(None, Some(243.0))).unwrap();
    assert_eq!(table.expected_jobs(), [36, 24, 11, 3, 1, 1]);
    assert_eq!(table.pools()[0], pools[0]);
    assert_eq!((pools[0].num_awaited, &*pools[0].sizes), (3, &[5, 1][..]));
    let last = table.pools()[1].clone();
    assert_eq!(
        (last.num_awaited, last.first_rung, last.sizes),
        (3, 3, vec![3, 1, 1])
    );
    // What is there already changes nothing.
    let before = table.expected_jobs();
    table.extend(&search, &more(None, Some(81.0))).unwrap();
    assert_eq!(table.expected_jobs(), before);
    assert!(table.extend(&search, &more(None, Some(100.0))).is_err());
}

#[test]
fn an_extended_table_of_a_small_space_is_that_of_a_search_with_the_larger_limit() {
    let of = |brackets| {
        search_with(1, 9, 3, |file| {
            of_whole_numbers(file, 11);
            file.limit = Limit::Brackets(brackets);
        })
    };
    let (search, whole) = (of(2), Table::new(&of(4)).unwrap());
    let mut table = Table::new(&search).unwrap();
    let limit = Some(Limit::Brackets(2));
    table.extend(&search, &more(limit, None)).unwrap();
    assert_eq!(table.expected_jobs(), whole.expected_jobs());
    // The brackets behind a larger largest budget have nothing left to try; what there is goes on.
    let mut table = Table::new(&search).unwrap();
    let before = table.expected_jobs();
    table.extend(&search, &more(limit, Some(27.0))).unwrap();
    assert_eq!(table.expected_jobs(), [&before[..], &[1]].concat());
    assert_eq!(table.total(), 11);
}

#[test]
fn without_barrier_brackets_behind_a_larger_largest_budget_are_drawn_from_those_that_have_it() {
    let search = search_with(1, 9, 3, |file| {
        file.scheduling = Scheduling::Asynchronous;
        file.limit = Limit::Configurations(100);
    });
    let mut table = Table::new(&search).unwrap();
    let before: Vec<Place> = (0..100)
        .map(|id| table.place(ConfigurationId(id)))
        .collect();
    let limit = Some(Limit::Configurations(400));
    table.extend(&search, &more(limit, Some(27.0))).unwrap();
    assert_eq!(table.total(), 500);
    let places: Vec<Place> = (0..500)
        .map(|id| table.place(ConfigurationId(id)))
        .collect();
    assert_eq!(places[..100], before);
    assert!(
        places[100..]
            .iter()
            .all(|place| (3..7).contains(&place.bracket))
    );
    assert!(places[100..].iter().any(|place| place.rung == 3));
    let jobs = table.expected_jobs();
    assert!(jobs[3] > jobs[2] / 3 && jobs[3] < jobs[2], "{jobs:?}");
}

#[test]
fn brackets_start_at_the_rungs_that_the_search_names() {
    let of = |change: fn(&mut SearchFile)| Table::new(&search_with(1, 9, 3, change)).unwrap();
    let places = |table: &Table| {
        let place = |id| table.place(ConfigurationId(id));
        [8, 9, 11, 12, 15, 21].map(|id| (place(id).bracket, place(id).rung))
    };
    // Sizes [9,3,1] and [3] by turns.
    let expected = [(0, 0), (1, 2), (1, 2), (2, 0), (2, 0), (3, 2)];
    let named = of(|file| {
        file.first_rungs = Some(vec![0, 2]);
        file.limit = Limit::Brackets(4);
    });
    assert_eq!(places(&named), expected);
    assert_eq!((named.total(), named.expected_jobs()), (24, vec![18, 6, 8]));
    let tandem = of(|file| file.method = MethodName::Tandem);
    let expected = [(0, 0), (1, 2), (1, 2), (2, 2), (3, 0), (3, 0)];
    assert_eq!(places(&tandem), expected);
    let lowest = of(|file| file.first_rungs = Some(vec![1]));
    assert_eq!(
        lowest.place(ConfigurationId(7)),
        Place {
            bracket: 2,
            rung: 1
        }
    );
}

#[test]
fn tandem_leaves_out_every_second_rung_since_revision_4_unless_first_rungs_are_named() {
    let of = |revision, max, first_rungs: Option<&[u8]>| {
        let search = search_with(1, max, 3, |file| {
            file.method = MethodName::Tandem;
            file.revision = revision;
            file.first_rungs = first_rungs.map(<[u8]>::to_vec);
        });
        let rungs = 0..search.ladder.num_rungs();
        let budgets: Vec<String> = rungs.map(|r| search.ladder.budget(r).to_string()).collect();
        let sizes = search.bracket_sizes(0);
        (budgets.join(", "), search.first_rungs, sizes)
    };
    let all = |first_rungs: &[u8]| {
        let budgets = "1 step, 3 steps, 9 steps".to_owned();
        (budgets, first_rungs.to_vec(), vec![9, 3, 1])
    };
    for before in [None, Some(2), Some(3)] {
        assert_eq!(of(before, 9, None), all(&[0, 2, 2]), "{before:?}");
    }
    let two = |budgets: &str, sizes: [u32; 2]| (budgets.to_owned(), vec![0], sizes.to_vec());
    assert_eq!(of(Some(4), 9, None), two("1 step, 9 steps", [9, 1]));
    assert_eq!(of(Some(4), 3, None), two("1 step, 3 steps", [3, 1]));
    assert_eq!(of(Some(4), 9, Some(&[0, 2, 2])), all(&[0, 2, 2]));
}

#[test]
fn without_barrier_brackets_are_drawn_in_proportion_to_their_first_rungs() {
    let table = Table::new(&search_with(1, 9, 3, |file| {
        file.scheduling = Scheduling::Asynchronous;
        file.limit = Limit::Configurations(6000);
    }))
    .unwrap();
    let mut counts = [0u32; 3];
    for id in 0..6000 {
        counts[table.place(ConfigurationId(id)).bracket as usize] += 1;
    }
    // 9:3:3 of 6000; four standard deviations are about 150.
    assert!(counts[0].abs_diff(3600) < 150, "{counts:?}");
    assert!(counts[1].abs_diff(1200) < 130, "{counts:?}");
}

#[test]
fn the_bracket_in_which_a_small_space_ends_has_what_those_behind_it_would_have_had() {
    let of = |number, change: fn(&mut SearchFile)| {
        let search = search_with(1, 9, 3, |file| {
            of_whole_numbers(file, number);
            change(file);
        });
        Table::new(&search).unwrap()
    };
    let sizes = |table: &Table| -> Vec<Vec<u32>> {
        let number = table.num_brackets().unwrap_or(3);
        (0..number).map(|b| table.sizes(b).to_vec()).collect()
    };
    // [9,3,1] [3,1] [3] where there is enough.
    let enough = of(15, |_| {});
    assert_eq!(sizes(&enough), [vec![9, 3, 1], vec![3, 1], vec![3]]);
    assert_eq!(enough.num_brackets(), None);
    // 3 + 3 on rung 1, 1 + 1 + 3 on rung 2.
    let seven = of(7, |_| {});
    assert_eq!(sizes(&seven), [vec![7, 6, 5]]);
    assert_eq!((seven.total(), seven.expected_jobs()), (7, vec![7, 6, 5]));
    let eleven = of(11, |_| {});
    assert_eq!(sizes(&eleven), [vec![9, 3, 1], vec![2, 2]]);
    assert_eq!(eleven.expected_jobs(), [9, 5, 3]);
    let one = of(1, |_| {});
    assert_eq!(sizes(&one), [vec![1, 1, 1]]);
    // Before revision 4 tandem's brackets begin at the lowest rung, then twice at the top: all of these pass the middle.
    let tandem = of(9, |file| file.method = MethodName::Tandem);
    assert_eq!(sizes(&tandem), [vec![9, 7, 7]]);
    let random = of(4, |file| {
        file.method = MethodName::Random;
        file.limit = Limit::Brackets(2);
    });
    assert_eq!((random.total(), sizes(&random)), (4, vec![vec![4]]));
    let without_barrier = of(4, |file| {
        file.scheduling = Scheduling::Asynchronous;
        file.limit = Limit::Configurations(30);
    });
    assert_eq!(without_barrier.total(), 4);
}

#[test]
fn a_search_with_more_configurations_than_ids_is_refused() {
    let search = search_with(1, 59_049, 3, |file| file.limit = Limit::Brackets(u32::MAX));
    assert_eq!(Table::new(&search).unwrap_err().at, "limit");
}
