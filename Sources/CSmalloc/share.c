// Memory that several processes map, as anonymous files: by calls that can fail, and that a test
// can make fail.
#define _GNU_SOURCE
#include "CSmalloc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

extern int smalloc_fault(int kind) __attribute__((weak));

static bool fails(int kind, int error) {
    if (!smalloc_fault || !smalloc_fault(kind)) return false;
    errno = error;
    return true;
}

int smalloc_file_create(size_t size) {
    if (fails(SMALLOC_FAULT_FILE, EMFILE)) return -1;
    // Older kernels know no executable bit of such files.
    int file = memfd_create("smalloc", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (file < 0 && errno == EINVAL) {
        file = memfd_create("smalloc", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    }
    if (file < 0) return -1;
    if (size <= LLONG_MAX && fchmod(file, 0600) == 0 && ftruncate(file, (off_t)size) == 0
        && fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0) {
        return file;
    }
    int error = errno;
    close(file);
    errno = error;
    return -1;
}

void *smalloc_file_map(int file, size_t size, size_t alignment) {
    if (fails(SMALLOC_FAULT_MAP, ENOMEM)) return NULL;
    // Addresses first, so that what is mapped over them begins where huge pages can.
    char *all = mmap(NULL, size + alignment, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
        -1, 0);
    if (all == MAP_FAILED) return NULL;
    size_t lead = -(uintptr_t)all & (alignment - 1);
    void *start = mmap(all + lead, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0);
    if (start == MAP_FAILED) {
        int error = errno;
        munmap(all, size + alignment);
        errno = error;
        return NULL;
    }
    if (lead > 0) munmap(all, lead);
    if (alignment - lead > 0) munmap(all + lead + size, alignment - lead);
    return start;
}

bool smalloc_file_replace(int file, size_t offset, void *start, size_t size, bool is_writable) {
    if (fails(SMALLOC_FAULT_MAP, ENOMEM)) return false;
    // A shared mapping by a descriptor that can write stands in the way of the seal, even one that
    // is only for reading. A private one that is never written shows the same pages.
    return mmap(start, size, is_writable ? PROT_READ | PROT_WRITE : PROT_READ,
               (is_writable ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED, file, (off_t)offset)
        != MAP_FAILED;
}

bool smalloc_file_is_writable(int file) {
    int seals = fcntl(file, F_GET_SEALS);
    return seals >= 0 && !(seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE));
}

bool smalloc_file_freeze(int file) {
    if (fails(SMALLOC_FAULT_FILE, ENOMEM)) return false;
    int seals = fcntl(file, F_GET_SEALS);
    // A client may have sealed what it may write anyway.
    if (seals >= 0 && seals & F_SEAL_WRITE) return true;
    return fcntl(file, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL) == 0;
}

bool smalloc_populate(void *start, size_t size, bool is_writable) {
    if (fails(SMALLOC_FAULT_ADVISE, ENOMEM)) return false;
    // Linux 5.14; before it pages come with the first access, as without this.
    return madvise(start, size, is_writable ? 23 /* MADV_POPULATE_WRITE */ : 22) == 0
        || errno == EINVAL;
}

// What is zero is left out by so many bytes.
enum { HOLE_SIZE = 64 << 10 };

static bool is_zero(const char *bytes, size_t size) {
    return size == 0 || (*bytes == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

bool smalloc_file_write(int file, size_t offset, const void *bytes, size_t size) {
    if (fails(SMALLOC_FAULT_FILE, ENOMEM)) return false;
    while (size > 0) {
        size_t part = size < HOLE_SIZE ? size : HOLE_SIZE;
        ssize_t count = is_zero(bytes, part) ? (ssize_t)part
                                             : pwrite(file, bytes, part, (off_t)offset);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return false;
        bytes = (const char *)bytes + count;
        offset += (size_t)count;
        size -= (size_t)count;
    }
    return true;
}

bool smalloc_file_punch(int file, size_t offset, size_t size) {
    if (fails(SMALLOC_FAULT_ADVISE, ENOMEM)) return false;
    return fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size)
        == 0;
}

// Room for "/proc/self/fd/" and a number.
enum { ENTRY_SIZE = 32 };

static void entry_of(int file, char entry[ENTRY_SIZE]) {
    snprintf(entry, ENTRY_SIZE, "/proc/self/fd/%d", file);
}

int smalloc_file_reopen(int file, bool is_writable) {
    if (fails(SMALLOC_FAULT_FILE, EMFILE)) return -1;
    char entry[ENTRY_SIZE];
    entry_of(file, entry);
    // A client that holds a lease must not keep the daemon waiting for it.
    return open(entry, (is_writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK);
}

int smalloc_file_holders(int file) {
    int probe = smalloc_file_reopen(file, false);
    // Somebody's lease is in the way: it is held.
    if (probe < 0) return errno == EWOULDBLOCK ? 2 : -1;
    int holders = 2;
    if (fcntl(probe, F_SETLEASE, F_WRLCK) == 0) {
        holders = 0;
    } else if (errno != EAGAIN && errno != EBUSY) {
        holders = -1;
    } else if (fcntl(probe, F_SETLEASE, F_RDLCK) == 0) {
        holders = 1;
    }
    if (holders == 0 || holders == 1) fcntl(probe, F_SETLEASE, F_UNLCK);
    close(probe);
    return holders;
}

int smalloc_watch_create(void) { return inotify_init1(IN_CLOEXEC | IN_NONBLOCK); }

int smalloc_watch_file(int watch, int file) {
    if (fails(SMALLOC_FAULT_FILE, ENOSPC)) return -1;
    char entry[ENTRY_SIZE];
    entry_of(file, entry);
    return inotify_add_watch(watch, entry, IN_DELETE_SELF);
}

int smalloc_watch_next(int watch, int *gone, int room) {
    struct inotify_event events[64];
    int most = room < 64 ? room : 64;
    ssize_t size = read(watch, events, sizeof(struct inotify_event) * (size_t)most);
    if (size < 0) return -1;
    int count = 0;
    // A watch on a file brings no name, so each event is as large as its head.
    for (size_t at = 0; at + sizeof(struct inotify_event) <= (size_t)size;) {
        struct inotify_event event;
        memcpy(&event, (char *)events + at, sizeof(event));
        at += sizeof(event) + event.len;
        if (event.mask & IN_Q_OVERFLOW) return -2;
        if (event.mask & IN_IGNORED && count < room) gone[count++] = event.wd;
    }
    return count;
}

ssize_t smalloc_send_descriptors(
    int socket, const struct iovec *views, size_t count, const int *descriptors, size_t passed) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int) * SMALLOC_PASSED_MAX)];
    } control;
    if (passed == 0 || passed > SMALLOC_PASSED_MAX) {
        errno = EINVAL;
        return -1;
    }
    memset(&control, 0, sizeof(control));
    struct msghdr message = {
        .msg_iov = (struct iovec *)views,
        .msg_iovlen = count,
        .msg_control = &control,
        .msg_controllen = CMSG_SPACE(sizeof(int) * passed),
    };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * passed);
    memcpy(CMSG_DATA(header), descriptors, sizeof(int) * passed);
    ssize_t sent;
    do {
        sent = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    return sent;
}

ssize_t smalloc_receive_descriptors(
    int socket, void *bytes, size_t size, int flags, int *descriptors, size_t room,
    size_t *received) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int) * SMALLOC_RECEIVED_MAX)];
    } control;
    struct iovec view = {.iov_base = bytes, .iov_len = size};
    struct msghdr message = {
        .msg_iov = &view,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
    };
    *received = 0;
    ssize_t count = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
    if (count < 0) return count;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header;
         header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        size_t found = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t index = 0; index < found; index++) {
            int descriptor;
            memcpy(&descriptor, CMSG_DATA(header) + index * sizeof(int), sizeof(int));
            if (*received < room && !(message.msg_flags & MSG_CTRUNC)) {
                descriptors[(*received)++] = descriptor;
            } else {
                close(descriptor);
            }
        }
    }
    // Which of them the system has dropped nothing tells.
    if (message.msg_flags & MSG_CTRUNC) {
        errno = EMFILE;
        return -1;
    }
    return count;
}
