//! The decoding core through its C ABI, `csrc/stale_core.h`; take this file and link `stale_core_c`.

use std::os::raw::c_char;
use std::ptr::null;

const ABI_VERSION: i32 = 2; // STALE_CORE_ABI_VERSION of the header that the structs below repeat
const RELEASE_MOST: usize = 100; // detections that stale_decode_release gives at most
const SOFT_NMS_NONE: i32 = 3;

/// `method`: 0 gaussian, 1 linear, 2 hard, 3 none, the last only for points.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SoftNmsParameters {
    pub method: i32,
    pub sigma: f64,
    pub tiou_threshold: f64,
    pub min_score: f64,
    pub top_k: i64,
}

#[repr(C)]
struct PaperParameters {
    class_threshold: f64,
    top_snippets: i64,
    mask_thresholds: *const f64,
    n_mask_thresholds: usize,
    regions: i32,
    min_snippets: i64,
    soft_nms: SoftNmsParameters,
}

#[repr(C)]
struct Points {
    class_logits: *const f32,
    offsets: *const f32,
    valid: *const u8,
    n_points: usize,
    n_classes: usize,
    level_lengths: *const i64,
    n_levels: usize,
}

/// Settings of the policy `points`; `multiclass`: 1 or 0.
#[repr(C)]
pub struct PointsSettings {
    pub pre_nms_threshold: f64,
    pub pre_nms_top_k: i64,
    pub duration_threshold: f64,
    pub multiclass: i32,
    pub voting_threshold: f64,
    pub soft_nms: SoftNmsParameters,
}

#[repr(C)]
struct RunsParameters {
    class_threshold: f64,
    top_share: f64,
    thresholds: *const f64,
    n_thresholds: usize,
    scaled: i32,
    alone: i32,
    smoothing: f64,
    run_score: i32,
    surroundings: f64,
    video_weight: f64,
    length_power: f64,
    min_snippets: i64,
    soft_nms: SoftNmsParameters,
}

/// Settings of the policy `paper`. `regions`: 0 runs, 1 hull.
pub struct PaperSettings {
    pub class_threshold: f64,
    pub top_snippets: i64,
    pub mask_thresholds: Vec<f64>,
    pub regions: i32,
    pub min_snippets: i64,
    pub soft_nms: SoftNmsParameters,
}

/// Settings of the policy `runs`. `scaled`: 1 or 0; `alone`: 0 softmax, 1 sigmoid; `run_score`: 0 maximum, 1 contrast, 2 mean-contrast.
pub struct RunsSettings {
    pub class_threshold: f64,
    pub top_share: f64,
    pub thresholds: Vec<f64>,
    pub scaled: i32,
    pub alone: i32,
    pub smoothing: f64,
    pub run_score: i32,
    pub surroundings: f64,
    pub video_weight: f64,
    pub length_power: f64,
    pub min_snippets: i64,
    pub soft_nms: SoftNmsParameters,
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
                          parameters: *const PaperParameters, detections: *mut Detection, capacity: usize,
                          count: *mut usize, error: *mut c_char, error_size: usize) -> i32;
    fn stale_decode_release(class_logits: *const f32, masks: *const f32, n_classes: usize, n_snippets: usize,
                            detections: *mut Detection, capacity: usize, count: *mut usize, error: *mut c_char,
                            error_size: usize) -> i32;
    fn stale_decode_points(points: *const Points, parameters: *const PointsSettings, detections: *mut Detection,
                           capacity: usize, count: *mut usize, error: *mut c_char, error_size: usize) -> i32;
    fn stale_decode_runs(class_logits: *const f32, attention: *const f32, n_classes: usize, n_snippets: usize,
                         parameters: *const RunsParameters, detections: *mut Detection, capacity: usize,
                         count: *mut usize, error: *mut c_char, error_size: usize) -> i32;
}

/// Class logits (K+1, T), background last, and masks (T, T) to detections, best first.
pub fn decode_paper(
    class_logits: &[f32],
    masks: &[f32],
    n_classes: usize,
    n_snippets: usize,
    settings: &PaperSettings,
) -> Result<Vec<Detection>, String> {
    let sizes = [(class_logits.len(), (n_classes + 1) * n_snippets), (masks.len(), n_snippets * n_snippets)];
    let parameters = PaperParameters {
        class_threshold: settings.class_threshold,
        top_snippets: settings.top_snippets,
        mask_thresholds: settings.mask_thresholds.as_ptr(),
        n_mask_thresholds: settings.mask_thresholds.len(),
        regions: settings.regions,
        min_snippets: settings.min_snippets,
        soft_nms: settings.soft_nms,
    };
    let (logits, masks) = (class_logits.as_ptr(), masks.as_ptr());
    decode(&sizes, most(&settings.soft_nms), |out, capacity, count, error, size| unsafe {
        stale_decode_paper(logits, masks, n_classes, n_snippets, &parameters, out, capacity, count, error, size)
    })
}

/// As `decode_paper`, by the public script with its own settings.
pub fn decode_release(class_logits: &[f32], masks: &[f32], n_classes: usize, n_snippets: usize) -> Result<Vec<Detection>, String> {
    let sizes = [(class_logits.len(), (n_classes + 1) * n_snippets), (masks.len(), n_snippets * n_snippets)];
    let (logits, masks) = (class_logits.as_ptr(), masks.as_ptr());
    decode(&sizes, RELEASE_MOST, |out, capacity, count, error, size| unsafe {
        stale_decode_release(logits, masks, n_classes, n_snippets, out, capacity, count, error, size)
    })
}

/// Class logits (P, K), offsets (P, 2) and valid (P,) of the points of all levels to detections, best first; times are in points
/// of the first level.
pub fn decode_points(
    class_logits: &[f32],
    offsets: &[f32],
    valid: &[u8],
    level_lengths: &[i64],
    settings: &PointsSettings,
) -> Result<Vec<Detection>, String> {
    let n_points = valid.len();
    let n_classes = class_logits.len() / n_points.max(1);
    let sizes = [(class_logits.len(), n_points * n_classes), (offsets.len(), 2 * n_points)];
    let points = Points {
        class_logits: class_logits.as_ptr(),
        offsets: offsets.as_ptr(),
        valid: valid.as_ptr(),
        n_points,
        n_classes,
        level_lengths: level_lengths.as_ptr(),
        n_levels: level_lengths.len(),
    };
    let capacity = match settings.soft_nms.method {
        SOFT_NMS_NONE => level_lengths.len() * settings.pre_nms_top_k.max(0) as usize,
        _ => most(&settings.soft_nms),
    };
    decode(&sizes, capacity, |out, capacity, count, error, size| unsafe {
        stale_decode_points(&points, settings, out, capacity, count, error, size)
    })
}

/// Class logits (K+1, T), background last, and attention (T,) to detections, best first.
pub fn decode_runs(
    class_logits: &[f32],
    attention: Option<&[f32]>,
    n_classes: usize,
    n_snippets: usize,
    settings: &RunsSettings,
) -> Result<Vec<Detection>, String> {
    let sizes = [
        (class_logits.len(), (n_classes + 1) * n_snippets),
        (attention.map_or(n_snippets, <[f32]>::len), n_snippets),
    ];
    let parameters = RunsParameters {
        class_threshold: settings.class_threshold,
        top_share: settings.top_share,
        thresholds: settings.thresholds.as_ptr(),
        n_thresholds: settings.thresholds.len(),
        scaled: settings.scaled,
        alone: settings.alone,
        smoothing: settings.smoothing,
        run_score: settings.run_score,
        surroundings: settings.surroundings,
        video_weight: settings.video_weight,
        length_power: settings.length_power,
        min_snippets: settings.min_snippets,
        soft_nms: settings.soft_nms,
    };
    let (logits, attention) = (class_logits.as_ptr(), attention.map_or(null(), <[f32]>::as_ptr));
    decode(&sizes, most(&settings.soft_nms), |out, capacity, count, error, size| unsafe {
        stale_decode_runs(logits, attention, n_classes, n_snippets, &parameters, out, capacity, count, error, size)
    })
}

fn most(soft_nms: &SoftNmsParameters) -> usize {
    soft_nms.top_k.max(0) as usize
}

/// Compare the sizes of arrays (got, wanted), call the core, and read its answer. The core only reads its inputs and writes at
/// most `capacity` detections.
fn decode(
    sizes: &[(usize, usize)],
    capacity: usize,
    call: impl FnOnce(*mut Detection, usize, *mut usize, *mut c_char, usize) -> i32,
) -> Result<Vec<Detection>, String> {
    if let Some((got, wanted)) = sizes.iter().find(|(got, wanted)| got != wanted) {
        return Err(format!("decoding: an array must have {} numbers; got {}", wanted, got));
    }
    if unsafe { stale_core_abi_version() } != ABI_VERSION {
        return Err("the core that was loaded has another ABI than these declarations".to_string());
    }
    let mut found = vec![Detection { label: 0, score: 0.0, start: 0.0, end: 0.0 }; capacity];
    let (mut count, mut error) = (0, [0u8; 256]);
    let status = call(found.as_mut_ptr(), capacity, &mut count, error.as_mut_ptr() as *mut c_char, error.len());
    if status != 0 {
        let end = error.iter().position(|&byte| byte == 0).unwrap_or(error.len());
        return Err(format!("decoding: {}", String::from_utf8_lossy(&error[..end])));
    }
    found.truncate(count);
    Ok(found)
}
