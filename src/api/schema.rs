//! OpenAPI schemas that no derive gives: pure domain types, which do not know about OpenAPI, and string-or-object fields.

use super::request::{ModelObject, ModelRef, Nfe};
use super::solver::{SolverName, SolverObject, SolverRef};
use crate::lifecycle::State;
use crate::schedule::{Prediction, Terminal};
use std::borrow::Cow;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Ref, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};

fn string_enum(description: &str, values: &[&'static str]) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(SchemaType::new(Type::String))
        .description(Some(description))
        .enum_values(Some(values.iter().copied()))
        .into()
}

impl PartialSchema for Terminal {
    fn schema() -> RefOr<Schema> {
        string_enum(
            "How a sample leaves the last point: `t_min` (N evaluations over N+1 points, noise of t_min left in) or \
             `denoise` (N points, the last evaluation jumps to the clean estimate).",
            &["t_min", "denoise"],
        )
    }
}

impl ToSchema for Terminal {}

impl PartialSchema for State {
    fn schema() -> RefOr<Schema> {
        string_enum("Where a job is.", &Self::ALL.map(Self::as_str))
    }
}

impl ToSchema for State {
    fn name() -> Cow<'static, str> {
        "JobState".into()
    }
}

impl PartialSchema for Prediction {
    fn schema() -> RefOr<Schema> {
        string_enum(
            "What the network predicts.",
            &[
                "epsilon",
                "v_prediction",
                "sample",
                "flow_prediction",
                "edm",
            ],
        )
    }
}

impl ToSchema for Prediction {}

impl PartialSchema for Nfe {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(SchemaType::new(Type::Integer))
            .description(Some("Denoiser evaluations per sample."))
            .minimum(Some(1))
            .maximum(Some(super::MAX_NFE as usize))
            .into()
    }
}

impl ToSchema for Nfe {}

fn reference<T: ToSchema>() -> RefOr<Schema> {
    Ref::from_schema_name(T::name()).into()
}

fn register<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    schemas.push((T::name().into_owned(), T::schema()));
    T::schemas(schemas);
}

impl PartialSchema for SolverRef {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new()
            .description(Some("A solver by name, or with options."))
            .item(reference::<SolverName>())
            .item(reference::<SolverObject>())
            .into()
    }
}

impl ToSchema for SolverRef {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        register::<SolverName>(schemas);
        register::<SolverObject>(schemas);
    }
}

impl PartialSchema for ModelRef {
    fn schema() -> RefOr<Schema> {
        let id = ObjectBuilder::new()
            .schema_type(SchemaType::new(Type::String))
            .description(Some("The id of a built-in or registered model."));
        OneOfBuilder::new()
            .description(Some("A model by id, or an inline description."))
            .item(id)
            .item(reference::<ModelObject>())
            .into()
    }
}

impl ToSchema for ModelRef {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        register::<ModelObject>(schemas);
    }
}
