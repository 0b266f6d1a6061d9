/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Our NBD server: libnbd's tools, qemu's and our own client as peers, and clients
 * made by hand that say what no client should.
 */
#include "churn.h"
#include "peer.h"

#include <endian.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "block/filter.h"
#include "block/graph.h"
#include "block/nbd_server.h"
#include "block/protocol.h"

#define SIZE (4u << 20)

static struct loop *loop;
static char dir[64], sock[128], uri[192];
static struct blk_node *disk, *slot;
static struct nbd_server *server;

static void serve(bool read_only)
{
	const struct nbd_export_opts o = { .name = "", .description = "a disk", .read_only = read_only };
	const struct nbd_export_opts second = { .name = "second" };
	struct err e = { 0 };

	assert_int_equal(blk_open_mem(loop, SIZE, &disk), 0);
	for (unsigned i = 0; i < SIZE; i += 4)
		memcpy(blk_mem_data(disk) + i, &i, 4);
	assert_int_equal(blk_slot_new(disk, &slot), 0);
	assert_int_equal(nbd_server_new(loop, 4, &server), 0);
	assert_int_equal(nbd_server_add(server, slot, &o, &e), 0);
	assert_int_equal(nbd_server_add(server, slot, &second, &e), 0);
	assert_int_equal(nbd_server_add(server, slot, &o, &e), -EEXIST);
	if (nbd_server_listen_unix(server, sock, &e))
		fail_msg("%s", e.msg);
}

static int stop_serving(void **state)
{
	nbd_server_free(server);
	server = NULL;
	blk_close(slot);
	slot = NULL;
	return 0;
}

/* ---- peers ---- */

static void nbdinfo_likes_it(void **state)
{
	static const char script[] =
		"set -e; nbdinfo --json --list \"$1\" >$2/out; grep -q '\"export-name\": \"second\"' $2/out; "
		"grep -q '\"export-size\": 4194304' $2/out; grep -q '\"description\": \"a disk\"' $2/out; "
		"grep -q '\"block_size_minimum\": 512' $2/out; nbdinfo --map \"$1\" >$2/out; grep -q '4194304 *0 *data' $2/out; "
		"nbdinfo --can fua \"$1\"; nbdinfo --can zero \"$1\"; nbdinfo --can trim \"$1\"; ! nbdinfo --is read-only \"$1\"; "
		"rm $2/out";

	need_peer("nbdinfo");
	serve(false);
	assert_int_equal(peer_run(loop, (const char *[]){ "sh", "-c", script, "sh", uri, dir, NULL }), 0);
}

/* Out and in again, over several connections, and what was written is what the disk has. */
static void nbdcopy_both_ways(void **state)
{
	char file[160];
	uint8_t *back = malloc(SIZE), *before = malloc(SIZE);
	int fd;

	need_peer("nbdcopy");
	serve(false);
	memcpy(before, blk_mem_data(disk), SIZE);
	snprintf(file, sizeof(file), "%s/copy", dir);
	assert_int_equal(peer_run(loop, (const char *[]){ "nbdcopy", uri, file, NULL }), 0);
	fd = open(file, O_RDONLY);
	assert_int_equal(read(fd, back, SIZE), SIZE);
	close(fd);
	assert_memory_equal(back, before, SIZE);
	memset(blk_mem_data(disk), 0xaa, SIZE);
	assert_int_equal(peer_run(loop, (const char *[]){ "nbdcopy", "--flush", "--connections=4", "--request-size=65536", file,
							 uri, NULL }), 0);
	assert_memory_equal(blk_mem_data(disk), before, SIZE);
	unlink(file);
	free(back);
	free(before);
}

static void qemu_io_works(void **state)
{
	need_peer("qemu-io");
	serve(false);
	assert_int_equal(peer_run(loop, (const char *[]){
		"qemu-io", "-f", "raw", "-c", "write -P 0x5a 4096 65536", "-c", "write -f -P 1 512 512", "-c", "read -P 0x5a 4096 65536",
		"-c", "write -z 8192 4096", "-c", "read -P 0 8192 4096", "-c", "discard 1M 1M", "-c", "flush", "-c", "map", uri, NULL }),
		0);
	assert_int_equal(blk_mem_data(disk)[4096], 0x5a);
	assert_int_equal(blk_mem_data(disk)[8192], 0);
	assert_int_equal(blk_mem_data(disk)[12288], 0x5a);
	assert_int_equal(blk_mem_data(disk)[512], 1);
}

static void read_only_is(void **state)
{
	need_peer("qemu-io");
	serve(true);
	assert_int_not_equal(peer_run(loop, (const char *[]){ "qemu-io", "-f", "raw", "-c", "write 0 512", uri, NULL }), 0);
	assert_int_equal(peer_run(loop, (const char *[]){ "qemu-io", "-r", "-f", "raw", "-c", "read 0 512", uri, NULL }), 0);
}

/* A program on TCP, several at once, the graph changing below. */
static void swapped_while_served(void **state)
{
	uint16_t port = 0;
	char tcp[64];
	struct err e = { 0 };
	pid_t pid;
	int status;

	need_peer("nbdcopy");
	serve(false);
	assert_int_equal(nbd_server_listen_tcp(server, "127.0.0.1", 0, &port, &e), 0);
	assert_int_equal(nbd_server_listen_tcp(server, "localhost", 0, NULL, &e), -EINVAL);
	snprintf(tcp, sizeof(tcp), "nbd://127.0.0.1:%u/second", port);
	for (unsigned i = 0; i < 5; i++) {
		pid = peer_start((const char *[]){ "nbdcopy", "--request-size=32768", tcp, "null:", NULL });
		while (waitpid(pid, &status, WNOHANG) == 0) {
			struct blk_node *faults = NULL;

			loop_turn(loop, 1);
			blk_slot_hold(slot);
			assert_int_equal(blk_fault_new(*blk_slot_image(slot), &faults), 0);
			blk_slot_insert(slot, faults);
			blk_slot_release(slot);
			loop_turn(loop, 0);
			blk_slot_hold(slot);
			blk_slot_remove(slot, faults);
			blk_slot_release(slot);
		}
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
}

/* Our own client, in a process that has the server's loop for itself. */
static void our_client(void **state)
{
	const struct blk_open_opts fo = { 0 };
	struct blk_node *n = NULL;
	struct churn *ch;
	struct blk_extent x;
	struct err e = { 0 };
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		loop_new(&loop);
		serve(false);
		for (;;)
			loop_turn(loop, -1);
	}
	peer_wait_for_socket(sock);
	srandom(7);
	if (nbd_node_open(loop, uri, &fo, false, &n, &e) && strstr(e.msg, "built without")) {
		peer_kill(pid);
		unlink(sock);
		skip();
	}
	assert_non_null(n);
	assert_int_equal(n->i.size, SIZE);
	ch = churn_new(loop, n, SIZE);
	churn_run(ch, 3000);
	churn_compare(ch, n);
	assert_int_equal(blk_block_status(n, 0, SIZE, false, &x), 0);
	assert_true(x.data);
	assert_int_equal(blk_pdiscard(n, 0, SIZE), 0);
	assert_int_equal(blk_flush(n), 0);
	churn_free(ch);
	blk_close(n);
	peer_kill(pid);
	unlink(sock);
}

/* ---- clients made by hand ---- */

static int hand;

static void connect_by_hand(void)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	assert_int_equal(nbd_server_attach(server, fds[1]), 0);
	hand = fds[0];
}

/* Until there is nothing left to do. */
static void turn(void)
{
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(loop_turn(loop, 0), 0);
}

static void say(const void *data, size_t len)
{
	assert_int_equal(send(hand, data, len, MSG_NOSIGNAL), len);
	turn();
}

static void hear(void *data, size_t len)
{
	turn();
	assert_int_equal(recv(hand, data, len, 0), len);
}

static bool hung_up(void)
{
	uint8_t waste[4096];
	ssize_t n;

	turn();
	while ((n = recv(hand, waste, sizeof(waste), 0)) > 0)
		turn();
	return n == 0;
}

static void say_option(uint32_t option, const void *data, uint32_t len)
{
	uint8_t head[16];
	uint32_t o = htobe32(option), l = htobe32(len);

	memcpy(head, "IHAVEOPT", 8);
	memcpy(head + 8, &o, 4);
	memcpy(head + 12, &l, 4);
	say(head, 16);
	if (data && len)
		say(data, len);
}

/* Type of the next reply, its data thrown away. */
static uint32_t hear_reply(void)
{
	uint8_t head[20], waste[256];
	uint32_t type, len;

	hear(head, 20);
	memcpy(&type, head + 12, 4);
	memcpy(&len, head + 16, 4);
	len = be32toh(len);
	assert_true(len <= sizeof(waste));
	if (len)
		hear(waste, len);
	return be32toh(type);
}

static void greet(void)
{
	uint8_t hello[18];

	connect_by_hand();
	hear(hello, 18);
	assert_memory_equal(hello, "NBDMAGICIHAVEOPT", 16);
	say("\0\0\0\3", 4);
}

static void go(void)
{
	greet();
	say_option(7, "\0\0\0\0\0\0", 6);
	while (hear_reply() != 1)
		;
}

static void say_request(uint16_t flags, uint16_t cmd, uint64_t off, uint32_t len)
{
	uint8_t head[28] = { 0x25, 0x60, 0x95, 0x13 };

	flags = htobe16(flags);
	cmd = htobe16(cmd);
	off = htobe64(off);
	len = htobe32(len);
	memcpy(head + 4, &flags, 2);
	memcpy(head + 6, &cmd, 2);
	memcpy(head + 8, "cookie!!", 8);
	memcpy(head + 16, &off, 8);
	memcpy(head + 24, &len, 4);
	say(head, 28);
}

static uint32_t hear_simple(void)
{
	uint8_t head[16];
	uint32_t error;

	hear(head, 16);
	assert_memory_equal(head, "\x67\x44\x66\x98", 4);
	assert_memory_equal(head + 8, "cookie!!", 8);
	memcpy(&error, head + 4, 4);
	return be32toh(error);
}

static void bad_negotiation(void **state)
{
	serve(false);
	greet();
	say_option(99, "abc", 3);
	assert_int_equal(hear_reply(), 0x80000001u);
	say_option(5, NULL, 0);				/* STARTTLS */
	assert_int_equal(hear_reply(), 0x80000001u);
	say_option(3, "x", 1);				/* LIST has no data */
	assert_int_equal(hear_reply(), 0x80000003u);
	say_option(7, "\xff\xff\xff\xff\0\0", 6);		/* a name longer than all */
	assert_int_equal(hear_reply(), 0x80000003u);
	say_option(6, "\0\0\0\1a\0\2\0\0", 9);		/* fewer infos than told */
	assert_int_equal(hear_reply(), 0x80000003u);
	say_option(6, "\0\0\0\1a\0\0", 7);		/* no such export */
	assert_int_equal(hear_reply(), 0x80000006u);
	say_option(10, "\0\0\0\0\0\0\0\1\0\0\0\5base:", 17);	/* contexts before structured replies */
	assert_int_equal(hear_reply(), 0x80000003u);
	say_option(8, NULL, 0);
	assert_int_equal(hear_reply(), 1);
	say_option(8, NULL, 0);
	assert_int_equal(hear_reply(), 0x80000003u);
	say_option(10, "\0\0\0\0\xff\xff\xff\xff", 8);	/* so many queries */
	assert_int_equal(hear_reply(), 0x80000003u);
	say_option(10, "\0\0\0\0\0\0\0\1\0\0\0\xff", 12);
	assert_int_equal(hear_reply(), 0x80000003u);
	say_option(9, "\0\0\0\0\0\0\0\0", 8);		/* list all contexts */
	assert_int_equal(hear_reply(), 4);
	assert_int_equal(hear_reply(), 1);
	say_option(2, NULL, 0);
	assert_int_equal(hear_reply(), 1);
	assert_true(hung_up());
	close(hand);
}

static void cut_off(void **state)
{
	uint8_t *much = calloc(1, 100000);

	serve(false);
	greet();
	/* Too long to be looked at, then far too long. */
	say_option(3, much, 100000);
	assert_int_equal(hear_reply(), 0x80000009u);
	say_option(3, NULL, 0);
	assert_int_equal(hear_reply(), 2);
	assert_int_equal(hear_reply(), 2);
	assert_int_equal(hear_reply(), 1);
	say_option(3, NULL, 0xffffffffu);
	assert_true(hung_up());
	close(hand);
	connect_by_hand();
	say("\0\0\0\0", 4);				/* not fixed newstyle */
	assert_true(hung_up());
	close(hand);
	greet();
	say("GET / HTTP/1.1\r\n\r\n", 16);
	assert_true(hung_up());
	close(hand);
	greet();
	say_option(1, "nosuch", 6);			/* EXPORT_NAME has no errors */
	assert_true(hung_up());
	close(hand);
	assert_int_equal(nbd_server_clients(server, NULL), 0);
	free(much);
}

static void bad_requests(void **state)
{
	uint8_t data[1024] = { 0 }, chunk[26];

	serve(false);
	go();
	say_request(0, 0, 0, 512);
	assert_int_equal(hear_simple(), 0);
	hear(data, 512);
	assert_int_equal(data[4], 4);
	say_request(0, 0, SIZE, 512);
	assert_int_equal(hear_simple(), 22);
	say_request(0, 0, UINT64_MAX - 511, 1024);
	assert_int_equal(hear_simple(), 22);
	say_request(0, 0, 1, 512);
	assert_int_equal(hear_simple(), 22);
	say_request(0, 0, 0, 0xfffffe00u);
	assert_int_equal(hear_simple(), 22);
	say_request(0, 5, 0, 512);			/* CACHE */
	assert_int_equal(hear_simple(), 22);
	say_request(0, 77, 0, 512);
	assert_int_equal(hear_simple(), 22);
	say_request(0x8000, 0, 0, 512);
	assert_int_equal(hear_simple(), 22);
	say_request(0, 7, 0, 512);			/* BLOCK_STATUS without contexts */
	assert_int_equal(hear_simple(), 22);
	say_request(0, 1, SIZE, 512);			/* the data of a refused write is read */
	say(data, 512);
	assert_int_equal(hear_simple(), 28);
	say_request(0, 1, 512, 512);
	memset(data, 3, 512);
	say(data, 512);
	assert_int_equal(hear_simple(), 0);
	assert_int_equal(blk_mem_data(disk)[512], 3);
	say_request(1, 4, 0, 512);
	assert_int_equal(hear_simple(), 0);
	say_request(0, 3, 0, 0);
	assert_int_equal(hear_simple(), 0);
	say_request(0, 1, 0, 0xfffffe00u);		/* a write too long to be read and forgotten */
	assert_true(hung_up());
	close(hand);
	greet();
	say_option(8, NULL, 0);
	assert_int_equal(hear_reply(), 1);
	say_option(7, "\0\0\0\6second\0\0", 12);
	while (hear_reply() != 1)
		;
	say_request(0, 0, SIZE, 512);
	hear(chunk, 26);
	assert_memory_equal(chunk, "\x66\x8e\x33\xef\0\1\x80\1", 8);
	assert_int_equal(chunk[23], 22);
	say_request(0, 2, 0, 0);			/* DISC */
	assert_true(hung_up());
	close(hand);
	go();
	say("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 28);
	assert_true(hung_up());
	close(hand);
}

/* A client that asks and never listens is not read from any more; others are served; it may go at any time. */
static void deaf_client(void **state)
{
	uint8_t head[28] = { 0x25, 0x60, 0x95, 0x13 };
	int deaf, sent = 0;

	serve(false);
	go();
	deaf = hand;
	head[25] = 0x10;	/* 1 MiB */
	while (send(deaf, head, 28, MSG_NOSIGNAL) == 28 && sent < 100000) {
		sent++;
		turn();
	}
	assert_true(sent < 100000);
	go();
	say_request(0, 0, 0, 512);
	assert_int_equal(hear_simple(), 0);
	close(hand);
	turn();
	assert_int_equal(nbd_server_clients(server, NULL), 1);
	close(deaf);
	turn();
	assert_int_equal(nbd_server_clients(server, NULL), 0);
	/* Half a write, and gone. */
	go();
	say_request(0, 1, 0, 65536);
	say(head, 28);
	close(hand);
	turn();
	assert_int_equal(nbd_server_clients(server, NULL), 0);
}

static void too_many(void **state)
{
	int fds[2], hands[4];

	serve(false);
	for (unsigned i = 0; i < 4; i++) {
		connect_by_hand();
		hands[i] = hand;
	}
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	assert_int_equal(nbd_server_attach(server, fds[1]), -EBUSY);
	close(fds[0]);
	close(fds[1]);
	for (unsigned i = 0; i < 4; i++)
		close(hands[i]);
	turn();
	/* An export that goes takes its clients along, requests under way and all. */
	go();
	blk_mem_hold(disk, true);
	say_request(0, 0, 0, 512);
	turn();
	assert_int_equal(nbd_server_clients(server, ""), 1);
	assert_int_equal(nbd_server_clients(server, "another"), 0);
	assert_int_equal(nbd_server_remove(server, ""), 0);
	assert_int_equal(nbd_server_remove(server, ""), -ENOENT);
	blk_mem_hold(disk, false);
	close(hand);
	assert_int_equal(nbd_server_clients(server, NULL), 0);
}

/* Errors of the disk reach the client as what they are. */
static void errors_pass(void **state)
{
	struct blk_node *faults = NULL;
	uint8_t data[512] = { 0 };

	serve(false);
	blk_slot_hold(slot);
	assert_int_equal(blk_fault_new(disk, &faults), 0);
	blk_slot_insert(slot, faults);
	blk_slot_release(slot);
	assert_int_equal(blk_fault_add(faults, &(struct blk_fault){ .ops = BIT(BLK_READ), .error = EIO }), 0);
	assert_int_equal(blk_fault_add(faults, &(struct blk_fault){ .ops = BIT(BLK_WRITE), .error = ENOSPC }), 0);
	assert_int_equal(blk_fault_add(faults, &(struct blk_fault){ .ops = BIT(BLK_FLUSH), .error = EPERM }), 0);
	go();
	say_request(0, 0, 0, 512);
	assert_int_equal(hear_simple(), 5);
	say_request(0, 1, 0, 512);
	say(data, 512);
	assert_int_equal(hear_simple(), 28);
	say_request(0, 3, 0, 0);
	assert_int_equal(hear_simple(), 1);
	close(hand);
}

static void sockets(void **state)
{
	struct nbd_server *other = NULL;
	struct stat st;
	struct err e = { 0 };

	serve(false);
	assert_int_equal(stat(sock, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(nbd_server_new(loop, 0, &other), 0);
	assert_int_equal(nbd_server_listen_unix(other, sock, &e), -EADDRINUSE);
	assert_non_null(strstr(e.msg, sock));
	assert_int_equal(nbd_server_listen_unix(other, "", &e), -ENAMETOOLONG);
	nbd_server_free(other);
	/* Still there after somebody else failed; gone with its server. */
	assert_int_equal(stat(sock, &st), 0);
}

static int setup(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/lodge-nbds-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(sock, sizeof(sock), "%s/sock", dir);
	snprintf(uri, sizeof(uri), "nbd+unix:///?socket=%s", sock);
	return loop_new(&loop);
}

static int teardown(void **state)
{
	bool gone = access(sock, F_OK) != 0;

	rmdir(dir);
	loop_free(loop);
	return gone ? 0 : -1;
}

/* A host without descriptors left: the loop goes on, does not spin, and the client is served when there are some again. */
static void no_descriptors(void **state)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	struct rlimit old, low;
	int64_t before;
	int turns = 0;

	serve(false);
	assert_true(strlen(sock) < sizeof(to.sun_path));
	memcpy(to.sun_path, sock, strlen(sock));
	hand = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_int_equal(connect(hand, (struct sockaddr *)&to, sizeof(to)), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = (struct rlimit){ 0, old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	before = loop_now_ns();
	while (loop_now_ns() - before < 50000000ll) {
		assert_int_equal(loop_turn(loop, 5), 0);
		turns++;
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_in_range(turns, 1, 30);
	assert_int_equal(nbd_server_clients(server, NULL), 0);
	while (!nbd_server_clients(server, NULL) && loop_now_ns() - before < 10000000000ll)
		assert_int_equal(loop_turn(loop, 100), 0);
	assert_int_equal(nbd_server_clients(server, NULL), 1);
	close(hand);
}

#define TEST(f) cmocka_unit_test_teardown(f, stop_serving)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nbdinfo_likes_it),
		TEST(nbdcopy_both_ways),
		TEST(qemu_io_works),
		TEST(read_only_is),
		TEST(swapped_while_served),
		TEST(our_client),
		TEST(bad_negotiation),
		TEST(cut_off),
		TEST(bad_requests),
		TEST(deaf_client),
		TEST(too_many),
		TEST(errors_pass),
		TEST(sockets),
		TEST(no_descriptors),
	};

	return cmocka_run_group_tests_name("block-nbd-server", tests, setup, teardown);
}
