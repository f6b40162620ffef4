// A write that libuv finishes later, and the bytes that it owns.

import CLibuv
import CSmalloc
import Glibc
import SmallocCore

/// A `uv_write_t` with the bytes that it writes, which are its own.
struct WriteRequest {
    let uv: UnsafeMutablePointer<uv_write_t>

    private struct Trailer {
        var bytes: UnsafeRawBufferPointer
        /// Memory to give back at the end, if it is not behind the trailer.
        var owned: UnsafeMutableRawPointer?
    }

    private static let trailerAt = (MemoryLayout<uv_write_t>.size + 15) / 16 * 16
    private static let bytesAt = trailerAt + (MemoryLayout<Trailer>.size + 15) / 16 * 16

    private var trailer: UnsafeMutablePointer<Trailer> {
        (UnsafeMutableRawPointer(uv) + WriteRequest.trailerAt).assumingMemoryBound(to: Trailer.self)
    }

    /// What is written.
    var bytes: UnsafeRawBufferPointer { trailer.pointee.bytes }

    /// Copies what is to be written.
    ///
    /// Nil: no memory for it.
    init?(copying bytes: UnsafeRawBufferPointer) {
        guard let memory = smalloc_allocate(WriteRequest.bytesAt + bytes.count) else { return nil }
        uv = memory.assumingMemoryBound(to: uv_write_t.self)
        let copy = UnsafeMutableRawBufferPointer(
            start: memory + WriteRequest.bytesAt, count: bytes.count)
        copy.copyMemory(from: bytes)
        trailer.initialize(to: Trailer(bytes: UnsafeRawBufferPointer(copy)))
    }

    /// Takes over memory, of which `size` bytes from `start` on are to be written.
    ///
    /// Nil: no memory for the request, and what was to be taken over is freed.
    init?(owning memory: UnsafeMutableRawPointer, from start: Int, size: Int) {
        guard let own = smalloc_allocate(WriteRequest.bytesAt) else {
            Glibc.free(memory)
            return nil
        }
        uv = own.assumingMemoryBound(to: uv_write_t.self)
        trailer.initialize(
            to: Trailer(
                bytes: UnsafeRawBufferPointer(start: memory + start, count: size), owned: memory))
    }

    /// The first `count` bytes have left.
    func advance(_ count: Int, _ registry: Registry) {
        registry.unchargeBuffer(count)
        trailer.pointee.bytes = UnsafeRawBufferPointer(rebasing: bytes[count...])
    }

    /// The request of a callback.
    init(uv: UnsafeMutablePointer<uv_write_t>) { self.uv = uv }

    /// Gives all its memory back, and what it was charged.
    func free(_ registry: Registry) {
        registry.unchargeBuffer(bytes.count)
        Glibc.free(trailer.pointee.owned)
        Glibc.free(uv)
    }
}
