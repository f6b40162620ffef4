import Foundation
import Testing
import TestSupport

import SmallocSystem
@testable import SmallocCore

@Suite("Byte lock", .timed)
struct ByteLockTests {
    /// What the lock guards, and the lock's word, in plain memory.
    private struct Guarded: @unchecked Sendable {
        let memory: UnsafeMutableRawPointer
        var lock: ByteLock { ByteLock(memory) }
        var counter: UnsafeMutablePointer<Int> {
            (memory + 8).assumingMemoryBound(to: Int.self)
        }
    }

    @Test("threads that count under it lose no count")
    func counting() {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: 16, alignment: 16)
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: 16)
        defer { memory.deallocate() }
        let guarded = Guarded(memory: memory)
        DispatchQueue.concurrentPerform(iterations: 8) { thread in
            for step in 0..<4000 {
                guarded.lock.lock()
                let value = guarded.counter.pointee
                // Now and then held for so long that the others go to sleep.
                if step % 1000 == thread { usleep(300) }
                guarded.counter.pointee = value + 1
                guarded.lock.unlock()
            }
        }
        #expect(guarded.counter.pointee == 32_000)
        #expect(memory.load(as: UInt32.self) == 0)
    }

    @Test("it is free when nobody holds it, and can be taken again")
    func free() {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: 4, alignment: 4)
        memory.storeBytes(of: 0, as: UInt32.self)
        defer { memory.deallocate() }
        for _ in 0..<100 {
            ByteLock(memory).lock()
            #expect(memory.load(as: UInt32.self) == 1)
            ByteLock(memory).unlock()
            #expect(memory.load(as: UInt32.self) == 0)
        }
    }
}
