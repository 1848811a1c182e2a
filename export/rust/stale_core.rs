//! The decoding core through its C ABI, `csrc/stale_core.h`; take this file and link `stale_core_c`.

use std::os::raw::c_char;

const ABI_VERSION: i32 = 1; // STALE_CORE_ABI_VERSION of the header that the structs below repeat
const RELEASE_MOST: usize = 100; // detections that stale_decode_release gives at most

#[repr(C)]
struct SoftNmsParameters {
    method: i32,
    sigma: f64,
    tiou_threshold: f64,
    min_score: f64,
    top_k: i64,
}

#[repr(C)]
struct DecodeParameters {
    class_threshold: f64,
    top_snippets: i64,
    mask_thresholds: *const f64,
    n_mask_thresholds: usize,
    regions: i32,
    min_snippets: i64,
    soft_nms: SoftNmsParameters,
}

/// `[start, end)` in snippets: divide by T, multiply by the duration. `label` is a row of the class bank.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Detection {
    pub label: i64,
    pub score: f64,
    pub start: f64,
    pub end: f64,
}

#[rustfmt::skip]
#[link(name = "stale_core_c")]
extern "C" {
    fn stale_core_abi_version() -> i32;
    fn stale_decode_paper(class_logits: *const f32, masks: *const f32, n_classes: usize, n_snippets: usize,
                          parameters: *const DecodeParameters, detections: *mut Detection, capacity: usize,
                          count: *mut usize, error: *mut c_char, error_size: usize) -> i32;
    fn stale_decode_release(class_logits: *const f32, masks: *const f32, n_classes: usize, n_snippets: usize,
                            detections: *mut Detection, capacity: usize, count: *mut usize, error: *mut c_char,
                            error_size: usize) -> i32;
}

/// A way to decode, named by `decode.policy` of a manifest.
pub struct Policy {
    pub name: &'static str,
    /// Outputs of the detector, in the order that `decode` takes them.
    pub reads: &'static [&'static str],
}

pub const POLICIES: [Policy; 2] =
    [Policy { name: "paper", reads: &["class_logits", "masks"] }, Policy { name: "release", reads: &["class_logits", "masks"] }];

impl Policy {
    /// The shapes of what it reads, for K classes and T snippets.
    pub fn shapes(&self, n_classes: usize, n_snippets: usize) -> Vec<Vec<usize>> {
        vec![vec![1, n_classes + 1, n_snippets], vec![1, n_snippets, n_snippets]]
    }
}

/// The "decode" settings of a manifest. `regions`: 0 runs, 1 hull. `soft_nms`: 0 gaussian, 1 linear, 2 hard.
/// The policy `release` reads none of them.
#[derive(Default)]
pub struct Settings {
    pub class_threshold: f64,
    pub top_snippets: i64,
    pub mask_thresholds: Vec<f64>,
    pub regions: i32,
    pub min_snippets: i64,
    pub soft_nms: i32,
    pub sigma: f64,
    pub tiou_threshold: f64,
    pub min_score: f64,
    pub max_detections: i64,
}

/// Turn what a policy reads, class logits (K+1, T), background last, and masks (T, T), into detections, best first.
pub fn decode(
    policy: &Policy,
    settings: &Settings,
    outputs: &[Vec<f32>],
    n_classes: usize,
    n_snippets: usize,
) -> Result<Vec<Detection>, String> {
    let sizes = policy.shapes(n_classes, n_snippets).into_iter().map(|shape| shape.iter().product::<usize>());
    if !sizes.eq(outputs.iter().map(Vec::len)) {
        return Err(format!("class logits must be (K + 1, T), masks (T, T) for K = {}, T = {}", n_classes, n_snippets));
    }
    let (class_logits, masks, release) = (&outputs[0], &outputs[1], policy.name == "release");
    let capacity = if release { RELEASE_MOST } else { settings.max_detections.max(0) as usize };
    let mut found = vec![Detection { label: 0, score: 0.0, start: 0.0, end: 0.0 }; capacity];
    let mut count = 0;
    let mut error = [0u8; 256];
    let parameters = DecodeParameters {
        class_threshold: settings.class_threshold,
        top_snippets: settings.top_snippets,
        mask_thresholds: settings.mask_thresholds.as_ptr(),
        n_mask_thresholds: settings.mask_thresholds.len(),
        regions: settings.regions,
        min_snippets: settings.min_snippets,
        soft_nms: SoftNmsParameters {
            method: settings.soft_nms,
            sigma: settings.sigma,
            tiou_threshold: settings.tiou_threshold,
            min_score: settings.min_score,
            top_k: settings.max_detections,
        },
    };
    // The lengths were compared above; the core only reads its inputs and writes at most `capacity` detections.
    let status = unsafe {
        if stale_core_abi_version() != ABI_VERSION {
            return Err("the core that was loaded has another ABI than these declarations".to_string());
        }
        let (logits, masks, out) = (class_logits.as_ptr(), masks.as_ptr(), found.as_mut_ptr());
        let message = error.as_mut_ptr() as *mut c_char;
        if release {
            stale_decode_release(logits, masks, n_classes, n_snippets, out, capacity, &mut count, message, error.len())
        } else {
            stale_decode_paper(logits, masks, n_classes, n_snippets, &parameters, out, capacity, &mut count, message, error.len())
        }
    };
    if status != 0 {
        let end = error.iter().position(|&byte| byte == 0).unwrap_or(error.len());
        return Err(format!("decoding: {}", String::from_utf8_lossy(&error[..end])));
    }
    found.truncate(count);
    Ok(found)
}
