// A mapping as another process would have it.

import Glibc
import SmallocWire

@testable import SmallocCore

/// A client's mapping of an allocation.
final class TestMap {
    let descriptor: Int32
    let state: Int32?
    let start: UnsafeMutableRawPointer
    let size: Int
    let slot: Int

    init?(_ peer: TestPeer, _ name: String, flags: UInt8 = 1) {
        let reply = peer.call(.map, flags: flags, name: name)
        let descriptors = peer.takeDescriptors()
        guard reply.status == .ok, let first = descriptors.first else { return nil }
        descriptor = first
        state = descriptors.count > 1 ? descriptors[1] : nil
        size = Int(reply.header.size)
        slot = Int(reply.number(0) & 0xFFFF_FFFF)
        let writes = flags & 1 != 0 ? PROT_WRITE : 0
        start = mmap(nil, size, PROT_READ | writes, MAP_SHARED, first, 0)
        if start == MAP_FAILED { return nil }
    }

    deinit {
        munmap(start, size)
        close(descriptor)
        if let state { close(state) }
    }

    var bytes: [UInt8] { Array(UnsafeRawBufferPointer(start: start, count: size)) }
    subscript(at: Int) -> UInt8 {
        get { start.load(fromByteOffset: at, as: UInt8.self) }
        set { start.storeBytes(of: newValue, toByteOffset: at, as: UInt8.self) }
    }

    /// Its slot of the state memory: the state word and the size.
    func state(_ daemon: TestDaemon) -> (word: UInt32, size: UInt64) {
        let state = daemon.registry.mappings.shares?.state
        let page = mmap(
            nil, 1 << 12, PROT_READ, MAP_SHARED, state?.descriptor ?? -1, slot / 256 * 4096)!
        defer { munmap(page, 1 << 12) }
        let at = slot % 256 * 16
        return (
            page.load(fromByteOffset: at, as: UInt32.self),
            page.load(fromByteOffset: at + 8, as: UInt64.self)
        )
    }
}
