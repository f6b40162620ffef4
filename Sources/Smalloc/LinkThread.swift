// The thread that a multiplexed connection is made and served on.

internal import Glibc

/// Makes a link on a thread of its own, which takes no signals, and serves it there to its end.
///
/// What `make` holds is released before the serving begins, so that it can end by being released.
func startLinkThread(_ make: @escaping @Sendable () -> Link?) -> Bool {
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    defer { pthread_attr_destroy(&attributes) }
    pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    pthread_attr_setstacksize(&attributes, 512 << 10)
    var all = sigset_t()
    var before = sigset_t()
    sigfillset(&all)
    pthread_sigmask(SIG_SETMASK, &all, &before)  // The new thread inherits it.
    defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
    let maker = Unmanaged.passRetained(LinkMaker(make))
    var thread = pthread_t()
    let code = pthread_create(
        &thread, &attributes,
        { argument in
            if let argument, let link = LinkMaker.run(argument) { serve(link) }
            return nil
        }, maker.toOpaque())
    if code != 0 { maker.release() }
    return code == 0
}

private func serve(_ link: Link) {
    var reader = LinkReader(link)
    reader.run()
}

private final class LinkMaker: Sendable {
    private let make: @Sendable () -> Link?
    init(_ make: @escaping @Sendable () -> Link?) { self.make = make }

    @inline(never)
    static func run(_ pointer: UnsafeMutableRawPointer) -> Link? {
        Unmanaged<LinkMaker>.fromOpaque(pointer).takeRetainedValue().make()
    }
}
