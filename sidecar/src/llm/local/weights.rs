//! A model's weights in the types that can be computed with quickly and well.
//!
//! Small models are shipped with 4-bit weights (GGUF type Q4_1), for which candle has no SIMD
//! kernel, and whose products round the activations to 8 bits, too. Measured with
//! SmolLM2-135M on one core: 13.7 s for 106 tokens as shipped, 6.2 s with all weights in f32,
//! 3.3 s in Q8_0. The rounding matters at one place, the input of the feed-forward block's
//! last product, whose few large values drown the others: as shipped, the model does not know
//! the capital of France. With that product in f32 and the rest in Q8_0 its answers are those
//! of f32 throughout, four times faster than as shipped, for 140 MiB more memory.

use std::io::{Cursor, Read, Seek};

use candle_core::quantized::gguf_file::{self, Content};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Result};
use candle_transformers::models::quantized_llama::ModelWeights;

/// Part of the names of the weights that are kept exact.
const EXACT: &str = ".ffn_down.";

/// Reads the weights of a llama model.
///
/// # Errors
/// A tensor or a setting that is missing or not of the right kind.
pub fn read(content: Content, file: &mut (impl Read + Seek)) -> Result<ModelWeights> {
    let slow = |kind: GgmlDType| matches!(kind, GgmlDType::Q4_1);
    if !content.tensor_infos.values().any(|tensor| slow(tensor.ggml_dtype)) {
        return ModelWeights::from_gguf(content, file, &Device::Cpu);
    }
    let mut converted = Cursor::new(convert(&content, file, slow)?);
    drop(content);
    let content = Content::read(&mut converted)?;
    ModelWeights::from_gguf(content, &mut converted, &Device::Cpu)
}

/// The same model as another GGUF file, with the tensors for which `slow` holds converted.
fn convert(
    content: &Content,
    file: &mut (impl Read + Seek),
    slow: impl Fn(GgmlDType) -> bool,
) -> Result<Vec<u8>> {
    let mut tensors: Vec<(&str, QTensor)> = Vec::with_capacity(content.tensor_infos.len());
    for name in content.tensor_infos.keys() {
        let mut tensor = content.tensor(file, name, &Device::Cpu)?;
        if slow(tensor.dtype()) {
            let to = if name.contains(EXACT) { GgmlDType::F32 } else { GgmlDType::Q8_0 };
            tensor = QTensor::quantize(&tensor.dequantize(&Device::Cpu)?, to)?;
        }
        tensors.push((name, tensor));
    }
    // The vocabulary is read from the original.
    let settings = content.metadata.iter().filter(|(name, _)| !name.starts_with("tokenizer."));
    let settings: Vec<_> = settings.map(|(name, value)| (name.as_str(), value)).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    let mut out = Cursor::new(Vec::new());
    gguf_file::write(&mut out, &settings, &tensors)?;
    Ok(out.into_inner())
}
