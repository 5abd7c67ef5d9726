//! temporary
#[derive(Debug, clap::Args)]
pub struct ServeArgs {}
#[derive(Debug, clap::Args)]
pub struct DatabaseArgs {}
pub fn serve(_: ServeArgs) -> anyhow::Result<()> {
    Ok(())
}
pub fn migrate(_: &DatabaseArgs) -> anyhow::Result<()> {
    Ok(())
}
pub fn print_openapi() -> anyhow::Result<()> {
    Ok(())
}
