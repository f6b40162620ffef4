// A write that libuv finishes later, and the bytes that it owns.

import CLibuv

/// A `uv_write_t` with the bytes that it writes.
struct WriteRequest {
    let uv: UnsafeMutablePointer<uv_write_t>

    private struct Trailer {
        var bytes: UnsafeRawBufferPointer
        /// Memory to give back at the end, if the bytes are not an allocation's.
        var owned: UnsafeMutableRawPointer?
    }

    private static let trailerAt = (MemoryLayout<uv_write_t>.size + 15) / 16 * 16

    private var trailer: UnsafeMutablePointer<Trailer> {
        (UnsafeMutableRawPointer(uv) + WriteRequest.trailerAt).assumingMemoryBound(to: Trailer.self)
    }

    /// What is written.
    var bytes: UnsafeRawBufferPointer { trailer.pointee.bytes }

    /// Whether the bytes are the request's own, and not an allocation's.
    var ownsBytes: Bool { trailer.pointee.owned != nil }

    /// Makes a request.
    ///
    /// - Parameters:
    ///   - bytes: What is written; they stay where they are until the write is over.
    ///   - owned: Memory that the request gives back at its end; nil if they are an allocation's.
    init(_ bytes: UnsafeRawBufferPointer, owned: UnsafeMutableRawPointer?) {
        let memory = UnsafeMutableRawPointer.allocate(
            byteCount: WriteRequest.trailerAt + MemoryLayout<Trailer>.size, alignment: 16)
        uv = memory.assumingMemoryBound(to: uv_write_t.self)
        trailer.initialize(to: Trailer(bytes: bytes, owned: owned))
    }

    /// The request of a callback.
    init(uv: UnsafeMutablePointer<uv_write_t>) { self.uv = uv }

    /// Gives all its memory back.
    func free() {
        trailer.pointee.owned?.deallocate()
        UnsafeMutableRawPointer(uv).deallocate()
    }
}
