import Glibc
import Testing

@testable import smallocd

@Suite("Zero copy")
struct ZeroCopyTests {
    @Test("only the daemon's own user is served, unless told otherwise")
    func users() {
        #expect(ZeroCopy.sameUser.serves(1000, own: 1000))
        #expect(ZeroCopy.sameUser.serves(0, own: 0))
        #expect(!ZeroCopy.sameUser.serves(1001, own: 1000))
        #expect(!ZeroCopy.sameUser.serves(0, own: 1000))
        #expect(!ZeroCopy.sameUser.serves(nil, own: 1000))
        // Whoever is not known in this namespace looks like nobody: many users, not one.
        #expect(!ZeroCopy.sameUser.serves(65_534, own: 65_534))
        #expect(ZeroCopy.on.serves(1001, own: 1000))
        #expect(ZeroCopy.on.serves(nil, own: 1000))
        #expect(!ZeroCopy.off.serves(1000, own: 1000))
    }

    @Test("the kernel tells who connected a Unix socket, and nothing of other descriptors")
    func credentials() {
        let pair = SocketPair()
        #expect(ZeroCopy.user(of: pair.ours) == geteuid())
        #expect(ZeroCopy.user(of: -1) == nil)
    }
}
