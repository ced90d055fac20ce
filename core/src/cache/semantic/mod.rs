//! The semantic cache's judgement: whether an answer to one prompt may be served for another.

pub mod guard;
