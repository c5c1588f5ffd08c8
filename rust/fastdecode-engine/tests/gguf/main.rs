//! GGUF files that are whole, damaged, or made to do damage.

#[path = "../../../fuzz/src/gguf.rs"]
mod bodies;
mod builder;
mod fuzz;
mod hostile;
mod memory;
#[path = "../../../fuzz/src/running.rs"]
mod running;
mod watched;

use builder::Builder;
use fastdecode_engine::gguf::{Encoding, Error, Gguf, ReadAt, Value};
use std::sync::{Arc, Mutex};

fn open(bytes: Vec<u8>) -> Result<Gguf, Error> {
    Gguf::new(Box::new(bytes))
}

#[test]
fn a_small_file() {
    let file = open(Builder::small().bytes()).unwrap();
    assert_eq!((file.version(), file.alignment()), (3, 32));
    assert_eq!(file.keys().len(), 16);
    assert!(file.keys().is_sorted());
    for (key, value) in [
        ("general.architecture", Value::String("llama")),
        ("u8", Value::U8(200)),
        ("i8", Value::I8(-56)),
        ("u16", Value::U16(513)),
        ("i16", Value::I16(-14335)),
        ("u32", Value::U32(7)),
        ("i32", Value::I32(-7)),
        ("f32", Value::F32(1.5)),
        ("true", Value::Bool(true)),
        ("u64", Value::U64(u64::MAX)),
        ("i64", Value::I64(i64::MIN)),
        ("f64", Value::F64(0.1)),
    ] {
        assert_eq!(file.get(key), Some(value), "{key}");
    }
    assert_eq!(file.get("u9"), None);
    let array = |key| file.get(key).and_then(Value::as_array).unwrap();
    assert_eq!(array("strings").strings().collect::<Vec<_>>(), ["one", "zwei", ""]);
    let booleans: Vec<_> = array("booleans").iter().collect();
    assert_eq!(booleans, [Value::Bool(false), Value::Bool(true)]);
    let nested: Vec<_> = array("nested").iter().filter_map(Value::as_array).collect();
    assert_eq!(nested[0].iter().collect::<Vec<_>>(), [Value::U32(1), Value::U32(2)]);
    assert_eq!(nested[1].strings().collect::<Vec<_>>(), ["x"]);
    assert!(array("empty").is_empty());
}

#[test]
fn tensors_are_read_in_pieces() {
    let small = Builder::small();
    let file = open(small.bytes()).unwrap();
    let names: Vec<_> = file.tensors().map(|tensor| tensor.name).collect();
    assert_eq!(names, ["halves", "matrix", "norm"]);
    let shapes: Vec<_> = file.tensors().map(|tensor| tensor.shape()).collect();
    assert_eq!(shapes, [vec![2, 1, 2], vec![2, 32], vec![3]]);
    let matrix = file.tensor("matrix").unwrap();
    assert_eq!(matrix.encoding.name(), "Q8_0");
    let mut whole = [0.0; 64];
    file.read(&matrix, 0, &mut whole).unwrap();
    let mut expected = [0.0; 64];
    matrix.encoding.dequantise(&small.data[32..100], &mut expected);
    assert_eq!(whole, expected);
    let mut second = [0.0; 32];
    file.read(&matrix, 32, &mut second).unwrap();
    assert_eq!(second, expected[32..]);
    let error = file.tensor("bias").unwrap_err();
    assert_eq!(error.to_string(), "the file has no tensor \"bias\"");
}

#[test]
fn a_file_that_was_cut_after_it_was_opened() {
    #[derive(Clone)]
    struct Shrinking(Arc<Mutex<Vec<u8>>>);
    impl ReadAt for Shrinking {
        fn size(&self) -> std::io::Result<u64> {
            self.0.lock().unwrap().size()
        }
        fn read_exact_at(&self, offset: u64, to: &mut [u8]) -> std::io::Result<()> {
            self.0.lock().unwrap().read_exact_at(offset, to)
        }
    }
    let bytes = Shrinking(Arc::new(Mutex::new(Builder::small().bytes())));
    let file = Gguf::new(Box::new(bytes.clone())).unwrap();
    let norm = file.tensor("norm").unwrap();
    file.read(&norm, 0, &mut [0.0; 3]).unwrap();
    let kept = Builder::small().bytes().len() - 130;
    bytes.0.lock().unwrap().truncate(kept);
    let error = file.read(&norm, 0, &mut [0.0; 3]).unwrap_err();
    assert!(matches!(error, Error::Read { .. }), "{error}");
}

#[test]
fn every_readable_encoding_is_named_and_widens_zeros() {
    let names = Encoding::readable();
    for encoding in Encoding::all() {
        assert_eq!(Encoding::named(encoding.name()), Some(encoding));
        assert_eq!(names.split(", ").any(|name| name == encoding.name()), encoding.is_readable());
        if encoding.is_readable() {
            let mut to = vec![1.0; 3 * encoding.block_elements()];
            encoding.dequantise(&vec![0; 3 * encoding.block_bytes()], &mut to);
            assert!(to.iter().all(|x| *x == 0.0), "{encoding}");
        }
    }
}
