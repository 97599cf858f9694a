//! How configurations are found: one trait, one file a method.
//!
//! A method is pure in form: what it suggests depends on the history, the question and the question's seed alone. It
//! may keep what it fitted from one call to the next, as long as that cannot be seen in what it suggests.

use serde_json::{Map, Value as Json};
use shared::id::{ConfigurationId, JobId};
use shared::record::ModelUse;
use shared::search::MethodName;
use shared::{Search, Seed};

use crate::history::History;
use crate::kde::Dimension;

pub mod bohb;
pub mod evolution;
pub mod progressive;
pub mod random;
pub mod reinforce;
pub mod smbo;
pub mod tandem;
pub mod tournament;
pub mod tpe;

/// The question: which configuration next?
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    /// The id it will have.
    pub configuration: ConfigurationId,
    /// The rung of its first job.
    pub rung: u8,
    /// Jobs open or in a trainer's hands.
    pub pending: &'a [JobId],
    /// Drives what is left to chance in this one answer.
    pub seed: Seed,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Suggestion {
    /// A vector of the space; coordinates of inactive dimensions do not matter.
    pub vector: Vec<f64>,
    /// What was done: `prior`, `model`, ….
    pub source: &'static str,
    /// Why, in a few words for people.
    pub reason: String,
    /// The model that spoke for it.
    pub model: Option<ModelUse>,
}

/// A way to find configurations.
pub trait Method: Send {
    /// Suggests a configuration.
    fn propose(&mut self, history: &History, ask: &Ask<'_>) -> Suggestion;

    /// What was fitted last, for people; empty if nothing was.
    fn fitted(&self) -> Map<String, Json> {
        Map::new()
    }
}

/// The method a search asks for.
pub fn of_search(search: &Search) -> Box<dyn Method> {
    let dimensions = Dimension::of_space(&search.space);
    match search.method {
        MethodName::Bohb => Box::new(bohb::Bohb::new(&search.space, search.bohb, search.seed)),
        MethodName::Tpe => Box::new(tpe::Tpe::new(dimensions)),
        MethodName::Evolution => Box::new(evolution::Evolution::new(dimensions)),
        MethodName::Reinforce if search.revision < 3 => {
            Box::new(reinforce::independent::Independent::new(dimensions))
        }
        MethodName::Reinforce => Box::new(reinforce::Reinforce::new(dimensions, search.seed)),
        MethodName::Progressive => Box::new(progressive::Progressive),
        MethodName::Tournament => Box::new(tournament::Tournament),
        MethodName::Smbo => Box::new(smbo::Smbo::new(dimensions)),
        MethodName::Tandem => Box::new(tandem::Tandem::new(search)),
        MethodName::Hyperband | MethodName::Random => Box::new(random::Random),
    }
}
