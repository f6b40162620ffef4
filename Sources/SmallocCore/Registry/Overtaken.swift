// Requests by name that found an allocation, and lost it to a `rename` with `replace` before they
// had its lock: they are done on what has the name now, so that none is told that there is none.

internal import SmallocSystem
internal import SmallocWire

extension Registry {
    /// Whether a request was answered `noData` although all that it means is there.
    ///
    /// Then it has changed nothing, and is to be done once more. Each time takes one more change by
    /// another thread at the same moment, so there are few.
    @inline(never)
    func isOvertaken(
        _ request: borrowing Request, _ caller: borrowing Caller
    ) -> Bool {
        switch request {
        case .open(let name): return isThere(Reference(handle: 0, name: name), caller)
        case .stat(let target), .dispose(let target): return isThere(target, caller)
        case .read(let target, _, _, _): return isThere(target, caller)
        case .readRanges(let target, _): return isThere(target, caller)
        case .write(let target, _, _, _): return isThere(target, caller)
        case .writeRanges(let target, _, _): return isThere(target, caller)
        case .receive(let target, _, _, _): return isThere(target, caller)
        case .fill(let target, _, _, _, _): return isThere(target, caller)
        case .truncate(let target, _, _): return isThere(target, caller)
        case .rename(let target, _, _): return isThere(target, caller)
        case .map(let target, _): return isThere(target, caller)
        case .unmap(let target), .freeze(let target): return isThere(target, caller)
        case .atomic(let target, _, _, _, _): return isThere(target, caller)
        case .copy(let source, _, let dest, _, _, _):
            return isThere(source, caller) && isThere(dest, caller)
        case .wait(let target, _, _, _, _): return isThere(target, caller)
        case .notify(let target, _, _, _): return isThere(target, caller)
        // It looks again by itself, and waits.
        case .await: return false
        case .hello, .ping, .alloc, .close, .list, .stats, .clients, .slowlog, .help, .quit,
            .cancel:
            return false
        }
    }

    private func isThere(
        _ target: borrowing Reference, _ caller: borrowing Caller
    ) -> Bool {
        if target.handle != 0 {
            guard let allocation = caller.handles[target.handle] else { return false }
            allocation.lock.lock()
            defer { allocation.lock.unlock() }
            return !allocation.flags.contains(.disposed)
        }
        guard let found = find(target.name.bytes) else { return false }
        releaseQuietly(found)
        return true
    }
}
