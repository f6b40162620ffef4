// Which addresses a listening socket serves already, so that none is bound twice: the service
// manager may hand over what the configuration names too, and two words may mean one address.

import CLibuv
import Glibc

extension ListeningSocket {
    /// Whether connections to a Unix path reach this socket.
    func serves(path: String) -> Bool {
        guard kind == .unix, let own = boundPath(descriptor) else { return false }
        if own == path { return true }
        var (left, right) = (stat(), stat())
        return stat(own, &left) == 0 && stat(path, &right) == 0
            && left.st_dev == right.st_dev && left.st_ino == right.st_ino
    }

    /// Whether connections to an IPv4 or IPv6 address reach this socket: it has the address, or all
    /// of the machine at the same port.
    ///
    /// - Parameter address: With port 0 it is any free port's, which no socket has yet.
    func serves(_ address: sockaddr_storage) -> Bool {
        guard kind == .tcp, let wanted = port(of: address), wanted != 0,
            let own = boundAddress(descriptor)?.storage, port(of: own) == wanted
        else { return false }
        let isOfAll = host(own).allSatisfy { $0 == 0 }
        guard own.ss_family == address.ss_family else {
            return isOfAll && Int32(own.ss_family) == AF_INET6
                && socketOption(descriptor, IPV6_V6ONLY, level: Int32(IPPROTO_IPV6)) == 0
        }
        return isOfAll || host(own) == host(address)
    }
}

/// The bytes of an IPv4 or IPv6 address that tell the host: with the zone of IPv6.
private func host(_ storage: sockaddr_storage) -> [UInt8] {
    withUnsafeBytes(of: storage) { bytes in
        Int32(storage.ss_family) == AF_INET ? Array(bytes[4..<8]) : Array(bytes[8..<28])
    }
}
