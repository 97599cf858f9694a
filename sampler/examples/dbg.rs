use sampler::bench::{problem::Problem, simulate};
use shared::search::MethodName;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let p = Problem::function(&a[1], None, None).unwrap();
    let s = simulate::search(&p, MethodName::Tandem, false, a[2].parse().unwrap()).unwrap();
    let rows = simulate::run(&p, &s, a[3].parse().unwrap(), 1).unwrap();
    for r in &rows {
        println!(
            "{} {:.2} {:.4} {:.4} {:.3}",
            r.eval, r.budget, r.loss, r.true_regret, r.cum_restart
        );
    }
}
