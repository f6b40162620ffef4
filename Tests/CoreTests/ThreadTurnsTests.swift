import Glibc
import Testing

@testable import SmallocCore

@Suite("Turns of threads")
struct ThreadTurnsTests {
    @Test("a thread that gives way has a niceness of ten more than the others, however often")
    func givesWay() {
        let ours = getpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0)
        let box = UnsafeMutablePointer<Int32>.allocate(capacity: 1)
        defer { box.deallocate() }
        var thread = pthread_t()
        let failed = pthread_create(
            &thread, nil,
            { box in
                ThreadTurns.giveWay()
                ThreadTurns.giveWay()
                box?.assumingMemoryBound(to: Int32.self).pointee = getpriority(
                    __priority_which_t(PRIO_PROCESS.rawValue), 0)
                return nil
            }, box)
        #expect(failed == 0)
        pthread_join(thread, nil)
        #expect(box.pointee == min(ours + 10, 19))
        #expect(getpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0) == ours)
    }
}
