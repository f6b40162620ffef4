// How the thread of a multiplexed connection is started.

internal import CSmalloc
internal import Glibc

/// Runs a body on a thread of its own, which takes no signals.
///
/// What the body holds is released when it returns, before what it returns is run.
///
/// - Returns: Whether there was a thread to be had.
func startThread(_ body: @escaping @Sendable () -> (@Sendable () -> Void)?) -> Bool {
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    defer { pthread_attr_destroy(&attributes) }
    pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    var all = sigset_t()
    var before = sigset_t()
    sigfillset(&all)
    pthread_sigmask(SIG_SETMASK, &all, &before)  // The new thread inherits it.
    defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
    let held = Unmanaged.passRetained(ThreadBody(body))
    var thread = pthread_t()
    let code = pthread_create(
        &thread, &attributes,
        { argument in
            if let argument { ThreadBody.run(argument)?() }
            return nil
        }, held.toOpaque())
    if code != 0 { held.release() }
    return code == 0
}

private final class ThreadBody: Sendable {
    private let body: @Sendable () -> (@Sendable () -> Void)?
    init(_ body: @escaping @Sendable () -> (@Sendable () -> Void)?) { self.body = body }

    @inline(never)
    static func run(_ pointer: UnsafeMutableRawPointer) -> (@Sendable () -> Void)? {
        Unmanaged<ThreadBody>.fromOpaque(pointer).takeRetainedValue().body()
    }
}
