// A name that has been checked, as bytes.

internal import SmallocWire

/// 1 to 255 bytes of printable ASCII without spaces.
///
/// The daemon checks too; here it is checked because a longer one could not even be asked for.
struct AllocationName: Hashable, Sendable {
    let bytes: [UInt8]

    /// - Throws: `.invalidName`.
    init(_ text: String) throws(SmallocError) {
        let bytes = Array(text.utf8)
        guard bytes.withUnsafeBytes({ Name.isValid($0) }) else { throw .invalidName }
        self.bytes = bytes
    }

    var text: String { String(decoding: bytes, as: UTF8.self) }
}
