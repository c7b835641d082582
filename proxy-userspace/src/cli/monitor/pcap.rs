//! Frames as a pcap file with nanoseconds (draft-ietf-opsawg-pcap section 4), in this machine's byte order.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
const VERSION: (u16, u16) = (2, 4);
const LINKTYPE_ETHERNET: u32 = 1;

/// A file in the making.
pub(super) struct Pcap {
    file: BufWriter<Box<dyn Write>>,
}

impl Pcap {
    /// A file for its owner alone, as it holds what people send; `-` is standard output.
    pub(super) fn create(path: &Path, snapshot: usize) -> io::Result<Self> {
        if path == Path::new("-") {
            return Self::new(Box::new(io::stdout()), snapshot);
        }
        let mut options = File::options();
        let file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        Self::new(Box::new(file), snapshot)
    }

    fn new(file: Box<dyn Write>, snapshot: usize) -> io::Result<Self> {
        let mut file = BufWriter::new(file);
        file.write_all(&MAGIC_NANOSECONDS.to_ne_bytes())?;
        file.write_all(&VERSION.0.to_ne_bytes())?;
        file.write_all(&VERSION.1.to_ne_bytes())?;
        // Two fields that are zero.
        file.write_all(&[0; 8])?;
        file.write_all(&(snapshot as u32).to_ne_bytes())?;
        file.write_all(&LINKTYPE_ETHERNET.to_ne_bytes())?;
        // A reader on the other end of a pipe waits for it.
        file.flush()?;
        Ok(Self { file })
    }

    /// Appends a frame of which the first bytes are there; `time` since 1970.
    pub(super) fn write(&mut self, time: Duration, frame: &[u8], length: u32) -> io::Result<()> {
        for field in [
            time.as_secs() as u32,
            time.subsec_nanos(),
            frame.len() as u32,
            length,
        ] {
            self.file.write_all(&field.to_ne_bytes())?;
        }
        self.file.write_all(frame)
    }

    /// Hands on what was appended.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::RefCell, rc::Rc};

    #[derive(Clone, Default)]
    struct Shared(Rc<RefCell<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_frame_has_24_and_16_bytes_in_front() {
        let written = Shared::default();
        let mut pcap = Pcap::new(Box::new(written.clone()), 128).unwrap();
        pcap.write(Duration::new(7, 9), b"frame", 60).unwrap();
        pcap.flush().unwrap();
        let bytes = written.0.borrow();
        let fields: Vec<u32> = (bytes[..40].chunks_exact(4))
            .map(|field| u32::from_ne_bytes(field.try_into().unwrap()))
            .collect();
        let version = u32::from_ne_bytes(
            [2_u16.to_ne_bytes(), 4_u16.to_ne_bytes()]
                .concat()
                .try_into()
                .unwrap(),
        );
        assert_eq!(fields, [MAGIC_NANOSECONDS, version, 0, 0, 128, 1, 7, 9, 5, 60]);
        assert_eq!(&bytes[40..], b"frame");
    }
}
