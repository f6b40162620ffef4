// A write that libuv finishes later, and the bytes that it owns.

import CLibuv

/// A `uv_write_t` with its size, and a copy of the bytes if they were not an allocation's, in one
/// block of memory.
struct WriteRequest {
    let uv: UnsafeMutablePointer<uv_write_t>

    private struct Trailer {
        var size: Int
        var isCopied: Bool
    }

    private static let trailerAt = (MemoryLayout<uv_write_t>.size + 15) / 16 * 16
    private static let copyAt = trailerAt + 16

    private var trailer: UnsafeMutablePointer<Trailer> {
        (UnsafeMutableRawPointer(uv) + WriteRequest.trailerAt).assumingMemoryBound(to: Trailer.self)
    }

    /// Bytes to write.
    var size: Int { trailer.pointee.size }

    /// The copy, if there is one.
    var copy: UnsafeMutableRawPointer? {
        trailer.pointee.isCopied ? UnsafeMutableRawPointer(uv) + WriteRequest.copyAt : nil
    }

    /// Makes a request for `size` bytes, with a copy of `bytes` unless that is nil.
    static func make(copying bytes: UnsafeRawBufferPointer?, size: Int) -> WriteRequest {
        let memory = UnsafeMutableRawPointer.allocate(
            byteCount: copyAt + (bytes?.count ?? 0), alignment: 16)
        let request = WriteRequest(uv: memory.assumingMemoryBound(to: uv_write_t.self))
        request.trailer.initialize(to: Trailer(size: size, isCopied: bytes != nil))
        if let bytes, let source = bytes.baseAddress {
            (memory + copyAt).copyMemory(from: source, byteCount: bytes.count)
        }
        return request
    }

    func free() { UnsafeMutableRawPointer(uv).deallocate() }
}
