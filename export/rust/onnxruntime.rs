//! ONNX Runtime's C API, as little of it as one detector needs, declared by hand: with crates, `ort` takes this file's place.
//!
//! `OrtApi` is a table of functions whose order never changes; the numbers below are places in it (onnxruntime_c_api.h).

use std::ffi::{c_void, CStr, CString};
use std::mem::transmute;
use std::os::raw::{c_char, c_int};
use std::ptr::{null, null_mut};

const API_VERSION: u32 = 16; // all functions used here are older
const FLOAT: c_int = 1;
const RTLD_NOW: c_int = 2;

type Status = *mut c_void; // null when all is well
type Opaque = *mut c_void;

#[repr(C)]
struct ApiBase {
    get_api: extern "C" fn(u32) -> *const *const c_void,
    get_version: extern "C" fn() -> *const c_char,
}

#[link(name = "dl")]
extern "C" {
    fn dlopen(name: *const c_char, flags: c_int) -> Opaque;
    fn dlsym(library: Opaque, name: *const c_char) -> Opaque;
}

#[derive(Clone, Copy)]
pub struct Api(*const *const c_void);

/// A detector that was opened; lives as long as the program.
/// An output, float32, row-major.
pub struct Tensor {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

pub struct Detector {
    api: Api,
    session: Opaque,
    memory: Opaque,
}

macro_rules! function {
    ($api:expr, $index:expr, fn($($argument:ty),*)) => { function!($api, $index, fn($($argument),*) -> Status) };
    ($api:expr, $index:expr, fn($($argument:ty),*) -> $result:ty) => {
        transmute::<*const c_void, unsafe extern "C" fn($($argument),*) -> $result>(*$api.0.add($index))
    };
}

/// Open the library and return its functions and its version.
pub fn open_library() -> Result<(Api, String), String> {
    if std::env::var_os("ORT_DISABLE_TELEMETRY").is_none() {
        std::env::set_var("ORT_DISABLE_TELEMETRY", "1"); // from 1.29 on it sends usage data unless told otherwise
    }
    let (name, symbol) = (CString::new("libonnxruntime.so.1").unwrap(), CString::new("OrtGetApiBase").unwrap());
    unsafe {
        let library = dlopen(name.as_ptr(), RTLD_NOW);
        let get_base = if library.is_null() { null_mut() } else { dlsym(library, symbol.as_ptr()) };
        if get_base.is_null() {
            return Err("libonnxruntime.so.1 cannot be opened; say where it lies in LD_LIBRARY_PATH".to_string());
        }
        let base = &*transmute::<Opaque, extern "C" fn() -> *const ApiBase>(get_base)();
        let version = CStr::from_ptr((base.get_version)()).to_string_lossy().into_owned();
        let table = (base.get_api)(API_VERSION);
        if table.is_null() {
            return Err(format!("ONNX Runtime 1.{} or newer is needed; got {}", API_VERSION, version));
        }
        Ok((Api(table), version))
    }
}

impl Api {
    fn need(self, status: Status) -> Result<(), String> {
        if status.is_null() {
            return Ok(());
        }
        unsafe {
            let message = function!(self, 2, fn(Status) -> *const c_char)(status); // GetErrorMessage
            let text = CStr::from_ptr(message).to_string_lossy().replace('\n', " ");
            function!(self, 93, fn(Status) -> ())(status); // ReleaseStatus
            Err(format!("ONNX Runtime: {}", text))
        }
    }
}

impl Detector {
    /// Open a network given as bytes, on one thread: nothing burns all cores unasked.
    pub fn open(api: Api, network: &[u8]) -> Result<Detector, String> {
        let (mut environment, mut options, mut session, mut memory) = (null_mut(), null_mut(), null_mut(), null_mut());
        let name = CString::new("stale-edge").unwrap();
        let bytes = network.as_ptr() as *const c_void;
        unsafe {
            api.need(function!(api, 3, fn(c_int, *const c_char, *mut Opaque))(3, name.as_ptr(), &mut environment))?; // CreateEnv
            api.need(function!(api, 10, fn(*mut Opaque))(&mut options))?; // CreateSessionOptions
            api.need(function!(api, 24, fn(Opaque, c_int))(options, 1))?; // SetIntraOpNumThreads
            api.need(function!(api, 25, fn(Opaque, c_int))(options, 1))?; // SetInterOpNumThreads
            let create = function!(api, 8, fn(Opaque, *const c_void, usize, Opaque, *mut Opaque)); // CreateSessionFromArray
            api.need(create(environment, bytes, network.len(), options, &mut session))?;
            api.need(function!(api, 69, fn(c_int, c_int, *mut Opaque))(1, 0, &mut memory))?; // CreateCpuMemoryInfo
        }
        Ok(Detector { api, session, memory })
    }

    /// Run features (T, C) and class embeddings (K, D): the outputs of these names, which must be float32.
    pub fn run(
        &self,
        features: (&[f32], usize),
        embeddings: (&[f32], usize),
        reads: &[&str],
    ) -> Result<Vec<Tensor>, String> {
        let ((features, n_snippets), (embeddings, n_classes)) = (features, embeddings);
        let inputs = [
            self.tensor(features, &[1, n_snippets as i64, (features.len() / n_snippets) as i64])?,
            self.tensor(embeddings, &[n_classes as i64, (embeddings.len() / n_classes) as i64])?,
        ];
        let names = ["features", "class_embeddings"].iter().chain(reads).map(|name| CString::new(*name).unwrap());
        let names: Vec<CString> = names.collect();
        let names: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        let mut outputs: Vec<Opaque> = vec![null_mut(); reads.len()];
        unsafe {
            #[rustfmt::skip]
            let run = function!(self.api, 9, fn(Opaque, *const c_void, *const *const c_char, *const Opaque, usize,
                                                *const *const c_char, usize, *mut Opaque)); // Run
            self.api.need(run(self.session, null(), names.as_ptr(), inputs.as_ptr(), 2, names[2..].as_ptr(), reads.len(),
                              outputs.as_mut_ptr()))?;
        }
        let values = outputs.iter().zip(reads).map(|(value, name)| self.numbers(*value, name));
        let values = values.collect::<Result<_, String>>()?;
        for value in inputs.iter().chain(outputs.iter()) {
            unsafe { function!(self.api, 96, fn(Opaque) -> ())(*value) } // ReleaseValue
        }
        Ok(values)
    }

    /// A tensor that borrows the values.
    fn tensor(&self, values: &[f32], shape: &[i64]) -> Result<Opaque, String> {
        let mut value = null_mut();
        let (data, size) = (values.as_ptr() as *const c_void, values.len() * 4);
        unsafe {
            #[rustfmt::skip]
            let create = function!(self.api, 49, fn(Opaque, *const c_void, usize, *const i64, usize, c_int, *mut Opaque)); // CreateTensorWithDataAsOrtValue
            self.api.need(create(self.memory, data, size, shape.as_ptr(), shape.len(), FLOAT, &mut value))?;
        }
        Ok(value)
    }

    /// The shape and values of an output, after its type was found to be float32.
    fn numbers(&self, value: Opaque, name: &str) -> Result<Tensor, String> {
        let (mut is_tensor, mut kind, mut n_axes) = (0, 0, 0usize);
        let (mut info, mut data) = (null_mut(), null_mut());
        unsafe {
            self.api.need(function!(self.api, 50, fn(Opaque, *mut c_int))(value, &mut is_tensor))?; // IsTensor
            if is_tensor == 0 {
                return Err(format!("the detector's output {} must be a tensor", name));
            }
            self.api.need(function!(self.api, 65, fn(Opaque, *mut Opaque))(value, &mut info))?; // GetTensorTypeAndShape
            self.api.need(function!(self.api, 60, fn(Opaque, *mut c_int))(info, &mut kind))?; // GetTensorElementType
            self.api.need(function!(self.api, 61, fn(Opaque, *mut usize))(info, &mut n_axes))?; // GetDimensionsCount
            let mut got = vec![0i64; n_axes];
            self.api.need(function!(self.api, 62, fn(Opaque, *mut i64, usize))(info, got.as_mut_ptr(), n_axes))?; // GetDimensions
            function!(self.api, 99, fn(Opaque) -> ())(info); // ReleaseTensorTypeAndShapeInfo
            if kind != FLOAT {
                return Err(format!("the detector's output {} must be float32; got type {}", name, kind));
            }
            let shape: Vec<usize> = got.iter().map(|size| *size as usize).collect();
            let count = shape.iter().product();
            if count == 0 {
                return Ok(Tensor { shape, values: vec![] }); // its data may be null
            }
            self.api.need(function!(self.api, 51, fn(Opaque, *mut Opaque))(value, &mut data))?; // GetTensorMutableData
            Ok(Tensor { shape, values: std::slice::from_raw_parts(data as *const f32, count).to_vec() })
        }
    }
}
