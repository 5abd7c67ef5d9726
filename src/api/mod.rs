//! The JSON contract: what clients send, what they get, and the one reading of a request that everything else uses.
//!
//! [`OptimizeRequest`] is the wire form, every field but three optional. [`Effective`] is its resolved form, defaults
//! filled in and limits checked; its canonical digest is the cache key. [`ScheduleDocument`] is the answer, the same bytes
//! over HTTP and from the command line. Called by `optimize`, `jobs`, `http` and `cli`; knows no transport.

mod calibration;
mod comparison;
mod digest;
mod document;
mod effective;
mod invalid;
mod job;
mod limits;
mod model;
mod noise;
mod prompts;
mod ranges;
mod request;
mod schema;
mod solver;

pub use calibration::{
    CalibrateFields, Calibration, CalibrationReport, DenoiserFacts, MeasuredCandidate,
    MeasuredError, PictureRow, Teacher,
};
pub use comparison::{CompareRequest, Comparison, ComparisonRow, GivenSigmas};
pub use digest::{Digest, DigestError};
pub use document::{
    Baseline, Fitness, Provenance, PsiReport, ScheduleDocument, SearchReport, SpacingReport,
    Warning,
};
pub use effective::{Effective, Known, Plan, SearchSettings, resolve};
pub use invalid::{Invalid, InvalidField};
pub use job::{
    BatchRequest, DryRun, JobDocument, JobError, JobList, JobProgress, JobSummary, ModelList,
    ScheduleList, ScheduleSummary,
};
pub use limits::{MAX_NFE, MAX_WORK};
pub use model::{Model, ModelId, ModelInfo, ModelRequest, RuntimeInfo};
pub use noise::{NoiseFields, NoiseKind};
pub use request::{
    BoundsFields, MethodName, ModelObject, ModelRef, Nfe, ObjectiveName, OptimizeRequest,
};
pub use solver::{EffectiveSolver, SolverName, SolverObject, SolverRef, SolverVariant};

/// Raised whenever the same effective request would give another schedule than before; part of every digest.
pub const ALGORITHM_REVISION: u32 = 1;
