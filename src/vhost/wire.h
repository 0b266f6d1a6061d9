/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages of the vhost-user protocol (QEMU's docs/interop/vhost-user.rst): numbers, layouts, and how they are sent and received.
 *
 * What comes is a peer's: sizes are bounded before anything is read, descriptors that nobody asked for are closed, and everything ends
 * at a deadline.  Any thread, one at a time for each socket.
 */
#ifndef LODGE_VHOST_WIRE_H
#define LODGE_VHOST_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "vhost/vhost.h"

enum vu_request {
	VU_GET_FEATURES = 1, VU_SET_FEATURES, VU_SET_OWNER, VU_RESET_OWNER, VU_SET_MEM_TABLE, VU_SET_LOG_BASE, VU_SET_LOG_FD, VU_SET_VRING_NUM,
	VU_SET_VRING_ADDR, VU_SET_VRING_BASE, VU_GET_VRING_BASE, VU_SET_VRING_KICK, VU_SET_VRING_CALL, VU_SET_VRING_ERR, VU_GET_PROTOCOL_FEATURES,
	VU_SET_PROTOCOL_FEATURES, VU_GET_QUEUE_NUM, VU_SET_VRING_ENABLE,
	VU_SET_BACKEND_REQ_FD = 21, VU_GET_CONFIG = 24, VU_SET_CONFIG, VU_RESET_DEVICE = 34,
};

/* What a peer asks, on a channel of its own. */
enum vu_backend_request { VU_BACKEND_CONFIG_CHANGE = 2 };

#define VU_VERSION 1u
#define VU_VERSION_MASK 3u
#define VU_F_REPLY 4u
#define VU_F_NEED_REPLY 8u

/* In virtio's feature bits: there are protocol features. */
#define VU_FEATURE_PROTOCOL (1ull << 30)

#define VU_P_MQ (1ull << 0)
#define VU_P_REPLY_ACK (1ull << 3)
#define VU_P_BACKEND_REQ (1ull << 5)
#define VU_P_CONFIG (1ull << 9)
#define VU_P_RESET_DEVICE (1ull << 13)

#define VU_MAX_FDS 8
#define VU_PAYLOAD_MAX 512u

struct vu_header {
	uint32_t request, flags, size;
};

struct vu_vring_state {
	uint32_t index, num;
};

struct vu_vring_addr {
	uint32_t index, flags;
	uint64_t desc, used, avail, log;
};

struct vu_region {
	uint64_t guest_addr, size, user_addr, mmap_offset;
};

struct vu_memory {
	uint32_t n_regions, padding;
	struct vu_region region[VHOST_MAX_REGIONS];
};

struct vu_config {
	uint32_t offset, size, flags;
	uint8_t data[VHOST_CONFIG_MAX];
};
#define VU_CONFIG_HEADER 12u

struct vu_msg {
	struct vu_header h;
	union {
		uint64_t u64;
		struct vu_vring_state state;
		struct vu_vring_addr addr;
		struct vu_memory memory;
		struct vu_config config;
		uint8_t bytes[VU_PAYLOAD_MAX];
	} p;
} __attribute__((packed, aligned(4)));
_Static_assert(offsetof(struct vu_msg, p) == 12, "a header is 12 bytes, and the payload follows");

/*
 * Sends m, with its first h.size bytes of payload, and descriptors.  deadline: CLOCK_MONOTONIC in ns.  ETIMEDOUT, EPIPE and what sendmsg
 * says.
 */
int vu_send(int fd, const struct vu_msg *m, const int *fds, unsigned n_fds, int64_t deadline);
/* Receives a whole message.  ETIMEDOUT; ENOTCONN: closed; EPROTO: not this version, or larger than VU_PAYLOAD_MAX. */
int vu_receive(int fd, struct vu_msg *m, int64_t deadline);

#endif
