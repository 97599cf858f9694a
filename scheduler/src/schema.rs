//! `scheduler schema`: the JSON Schema of the files that people write.

use anyhow::Result;
use shared::SearchFile;
use shared::cli::print;
use shared::exit::Code;
use shared::schema::schema;
use shared::space::SpaceFile;

/// What `scheduler schema` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct SchemaArgs {
    /// Which format
    #[arg(value_enum)]
    format: SchemaOf,
}

/// The formats that people write.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum SchemaOf {
    /// Search files
    Search,
    /// Space files
    Space,
}

/// Runs the subcommand.
pub(crate) fn run(args: &SchemaArgs) -> Result<Code> {
    let schema = match args.format {
        SchemaOf::Search => schema::<SearchFile>(),
        SchemaOf::Space => schema::<SpaceFile>(),
    };
    print(&format!("{}\n", serde_json::to_string_pretty(&schema)?))?;
    Ok(Code::Done)
}
