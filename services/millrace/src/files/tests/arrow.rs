//! Arrow files, whole and damaged.

use std::io::Write as _;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, Int64Array, RecordBatch};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};

use crate::files::ArrowFile;

const ROWS: i64 = 1_000;

fn batch() -> RecordBatch {
    let numbers: ArrayRef = Arc::new((0..ROWS).collect::<Int64Array>());
    let labels: DictionaryArray<Int32Type> =
        (0..ROWS).map(|n| ["yes", "no"][n as usize % 2]).collect();
    let labels: ArrayRef = Arc::new(labels);
    RecordBatch::try_from_iter([("n", numbers), ("label", labels)]).unwrap()
}

/// Two batches in a file.
fn written(compression: Option<CompressionType>) -> Vec<u8> {
    let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
    let batch = batch();
    let mut writer =
        FileWriter::try_new_with_options(Vec::new(), &batch.schema(), options).unwrap();
    writer.write(&batch).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn read(bytes: &[u8]) -> Result<Vec<RecordBatch>, String> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let reader = ArrowFile::open(file).map_err(|e| e.to_string())?;
    reader.map(|batch| batch.map_err(|e| e.to_string())).collect()
}

/// pandas packs by LZ4, unless it is told otherwise.
#[test]
fn files_are_read_however_they_are_packed() {
    let packed = [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)];
    for how in packed {
        assert_eq!(read(&written(how)).unwrap(), [batch(), batch()], "{how:?}");
    }
}

#[test]
fn what_is_no_arrow_file_is_told_so() {
    for bytes in [&b""[..], b"ARROW1", b"at,user_id\n2026-03-01T12:00:00Z,1\n"] {
        assert!(read(bytes).is_err(), "{bytes:?}");
    }
    let file = written(None);
    assert!(read(&file[..file.len() - 1]).is_err(), "its last byte is missing");
    assert!(read(&file[..file.len() / 2]).is_err(), "its second half is missing");
}

/// The file with these bytes replaced wherever they stand.
fn replaced(file: &[u8], what: &[u8], by: &[u8]) -> Vec<u8> {
    let places: Vec<usize> =
        file.windows(what.len()).enumerate().filter(|(_, w)| *w == what).map(|(i, _)| i).collect();
    assert!(!places.is_empty(), "{what:?} is not there");
    let mut copy = file.to_vec();
    for place in places {
        copy[place..place + by.len()].copy_from_slice(by);
    }
    copy
}

/// A buffer says how large it is once it is unpacked, and room for that is made at once.
#[test]
fn what_unpacks_to_too_much_is_refused_before_it_is_unpacked() {
    let unpacked = (ROWS * 8).to_le_bytes();
    for how in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        let damaged = replaced(&written(Some(how)), &unpacked, &(1i64 << 50).to_le_bytes());
        let error = read(&damaged).unwrap_err();
        assert!(error.contains("too large: at most 536870912 are read at a time"), "{error}");
    }
}

/// The footer says where record batches are and how long; nothing is kept that cannot be there.
#[test]
fn batches_beyond_the_end_are_refused() {
    let file = written(None);
    let footer_length = file[file.len() - 10..][..4].try_into().unwrap();
    let footer = file.len() - 10 - i32::from_le_bytes(footer_length) as usize;
    let mut found = 0;
    // Every number of the footer in turn, made the greatest that there is.
    for place in (footer..file.len() - 10 - 8).step_by(8) {
        let mut damaged = file.clone();
        damaged[place..place + 8].copy_from_slice(&i64::MAX.to_le_bytes());
        if let Err(error) = read(&damaged) {
            found += usize::from(error.contains("it ends inside a record batch"));
        }
    }
    assert!(found >= 2, "{found} numbers were noticed for what they are");
}
