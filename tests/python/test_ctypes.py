"""The library called from Python's own ctypes: layouts, callbacks, threads, two optimizations.

    python3 test_ctypes.py LIBTRIMTAB.SO LAYOUT

LAYOUT is the program of layout.c. Exit code 77: this Python cannot load the library.
"""
import array
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest
from ctypes import *

import trimtab as tt

INPUTS, BATCH, SCRATCH = 8, 8, 3
KINDS = {"d": tt.TT_F64, "b": tt.TT_I8}


class Job:
    """Logistic regression by SGD with momentum. Slots are dictionaries of named arrays."""

    def __init__(self, folder, fault=10**9, replay=True, settings=(), resume=False):
        self.folder, self.fault, self.replay = folder, fault, replay
        self.unroll = self.packed = 1
        self.slots = [self.initial() for _ in range(SCRATCH + 1)]
        self.readers, self.log = set(), []
        self.handles(settings, resume)

    # ---- the model

    @staticmethod
    def initial():
        return {"params/w": array.array("d", [0.0] * INPUTS),
                "moments/m": array.array("d", [0.0] * INPUTS)}

    @staticmethod
    def momentum(slot):
        if "moments/m" in slot:
            return list(slot["moments/m"])
        scale = slot["moments/scale"][0]
        return [scale * q for q in slot["moments/m8"]]

    def measure(self, slot, step, position, out):
        draw = random.Random(position)
        gradient, loss = [0.0] * INPUTS, 0.0
        for _ in range(BATCH):
            x = [draw.gauss(0, 1) for _ in range(INPUTS)]
            y = 1.0 if draw.gauss(0, 0.5) + x[0] - x[1] > 0 else 0.0
            z = math.fsum(a * b for a, b in zip(slot["params/w"], x))
            p = 1 / (1 + math.exp(-z))
            loss -= math.log(p if y else 1 - p) / BATCH
            gradient = [g + (p - y) * a / BATCH for g, a in zip(gradient, x)]
        if self.unroll > 1 and step >= self.fault:
            loss = math.nan
        norm = math.sqrt(math.fsum(g * g for g in gradient))
        tt_lib.tt_measurements_set(byref(out), tt.TT_METRIC_LOSS, loss)
        tt_lib.tt_measurements_set(byref(out), tt.TT_METRIC_GRADIENT_NORM, norm)
        tt_lib.tt_measurements_set(byref(out), tt.TT_METRIC_GRADIENT_NONFINITE, 0)
        return gradient

    def update(self, slot, gradient, rate, out):
        m = [0.9 * a + g for a, g in zip(self.momentum(slot), gradient)]
        w = [a - 0.05 * rate * b for a, b in zip(slot["params/w"], m)]
        new = {"params/w": array.array("d", w)}
        if self.packed > 1:
            scale = max(map(abs, m)) / 127
            q = [round(a / scale) for a in m]
            lost = math.sqrt(math.fsum((a - scale * b) ** 2 for a, b in zip(m, q)))
            share = lost / math.sqrt(math.fsum(a * a for a in m))
            tt_lib.tt_measurements_set_error(byref(out), self.target.value, share)
            new["moments/m8"] = array.array("b", q)
            new["moments/scale"] = array.array("d", [scale])
        else:
            new["moments/m"] = array.array("d", m)
        tt_lib.tt_measurements_set(byref(out), tt.TT_METRIC_UPDATE_NONFINITE, 0)
        out.updated = True
        return new

    # ---- the host: an exception must not leave a callback (ctypes would print it and go on)

    def guard(self, prototype, function):
        def call(user, *arguments):
            try:
                function(*arguments)
                return 0
            except Exception as problem:  # whatever it is, the run has to hear of it
                text = f"{type(problem).__name__}: {problem}".encode()
                return tt_lib.tt_fail(tt.TT_EINTERNAL, b"%s", c_char_p(text))
        return prototype(call)

    def tensor(self, slot, index):
        return list(self.slots[slot].items())[index]

    def tensor_info(self, slot, index, out):
        name, data = self.tensor(slot, index)
        out[0] = tt.tt_tensor_info(name.encode(), KINDS[data.typecode], 1)
        out[0].dims[0] = len(data)

    def tensor_read(self, slot, index, offset, to, count):
        self.readers.add(threading.get_ident())
        memmove(to, self.tensor(slot, index)[1].buffer_info()[0] + offset, count)

    def tensor_write(self, slot, index, offset, data, count):
        memmove(self.tensor(slot, index)[1].buffer_info()[0] + offset, data, count)

    def slot_prepare(self, slot, infos, count):
        codes = {kind: code for code, kind in KINDS.items()}
        self.slots[slot] = {
            infos[i].name.decode(): array.array(codes[infos[i].dtype], [0] * infos[i].dims[0])
            for i in range(count)}

    def slot_copy(self, source, to):
        self.slots[to] = {name: data[:] for name, data in self.slots[source].items()}

    def run_step(self, replay, out):
        r, slot = replay[0], self.slots[replay[0].read_slot]
        gradient = self.measure(slot, r.step, r.position, out[0])
        if r.write_slot >= 0:
            self.slots[r.write_slot] = self.update(slot, gradient, r.learning_rate_scale, out[0])

    def host(self):
        return tt.tt_host(
            size=sizeof(tt.tt_host),
            tensor_count=tt.tensor_count(lambda user, slot: len(self.slots[slot])),
            tensor_info=self.guard(tt.tensor_info, self.tensor_info),
            tensor_read=self.guard(tt.tensor_bytes, self.tensor_read),
            tensor_write=self.guard(tt.tensor_bytes, self.tensor_write),
            slot_prepare=self.guard(tt.slot_prepare, self.slot_prepare),
            slot_copy=self.guard(tt.slot_copy, self.slot_copy),
            run_step=self.guard(tt.run_step, self.run_step) if self.replay else tt.run_step(),
            slot_count=SCRATCH, scratch_slot=SCRATCH if self.replay else -1)

    # ---- optimizations

    def apply(self, config):
        self.unroll = tt_lib.tt_config_int(config, b"job.unroll")
        self.packed = tt_lib.tt_config_int(config, b"job.packed")

    def propose(self, key):
        def call(config, out):
            out[0].changes[0].key = key
            out[0].changes[0].value = b"2"
            out[0].change_count = 1
            tt_lib.tt_text_add(byref(out[0].evidence), b'{"by": "Python"}')
        return call

    def optimization(self, name, tier, aim, on_state):
        key = b"job." + (b"unroll" if tier == tt.TT_TIER_TILE else b"packed")
        return tt.tt_optimization(
            size=sizeof(tt.tt_optimization), name=name, tier=tier, aim=aim,
            keys=(c_char_p * 1)(key), key_count=1, baseline=(c_char_p * 1)(b"1"),
            acts_on_state=on_state, apply=self.guard(tt.take_config, self.apply),
            propose=self.guard(tt.propose, self.propose(key)))

    # ---- the run

    def handles(self, settings, resume):
        lib = tt_lib
        self.params, self.config = c_void_p(), c_void_p()
        self.orchestrator, self.resume = c_void_p(), tt.tt_resume()
        # Whatever the library keeps a pointer to has to stay alive: tables, callbacks, strings.
        self.lattice = (c_int64 * 2)(1, 2)
        self.table = (tt.tt_param * 2)(*(
            tt.tt_param(key=key, type=tt.TT_TYPE_INT, may_be_auto=True, unit=b"",
                        default_text=b"auto", minimum=1, maximum=2, lattice=self.lattice,
                        lattice_count=2, mutability=tt.TT_MUTABLE_AT_STEP, tier=tier,
                        owner=b"job", help=b"2: on")
            for key, tier in ((b"job.unroll", tt.TT_TIER_TILE),
                              (b"job.packed", tt.TT_TIER_COMPRESSION))))
        self.sink = tt.tt_log_sink(
            tt.log_write(lambda user, level, text: self.log.append(text.decode())))
        self.kept_host = self.host()
        self.optimizations = [
            self.optimization(b"unrolling", tt.TT_TIER_TILE, tt.TT_AIM_SPEED, False),
            self.optimization(b"packing", tt.TT_TIER_COMPRESSION, tt.TT_AIM_MEMORY, True)]
        self.target = c_int()
        target = tt.tt_error_target(sizeof(tt.tt_error_target), b"momentum", b"packing",
                                    tt.TT_ERROR_RECONSTRUCTION, True, 1)
        try:
            lib.tt_params_create(byref(self.params))
            lib.tt_orchestrator_register(self.params)
            lib.tt_params_register(self.params, self.table, 2)
            lib.tt_config_create(self.params, byref(self.config))
            for one in settings:
                lib.tt_config_set(self.config, tt.TT_SOURCE_COMMAND, one.encode(), b"--set")
            lib.tt_resume_init(byref(self.resume))
            options = tt.tt_orchestrator_options()
            lib.tt_orchestrator_options_init(byref(options))
            if resume:
                lib.tt_resume_prepare(self.folder.encode(), b"auto", self.config,
                                      cast(pointer(self.sink), c_void_p), byref(self.resume))
                options.resume = pointer(self.resume)
            options.params, options.config = self.params, self.config
            options.host = pointer(self.kept_host)
            options.run_directory = self.folder.encode()
            options.batch_sequences = BATCH
            options.log = pointer(self.sink)
            lib.tt_orchestrator_create(byref(options), byref(self.orchestrator))
            for one in self.optimizations:
                lib.tt_orchestrator_add(self.orchestrator, byref(one))
            lib.tt_orchestrator_add_target(self.orchestrator, byref(target), byref(self.target))
            lib.tt_orchestrator_start(self.orchestrator)
        except tt.Failure:
            self.close()
            raise

    def step(self):
        plan, measured, go = tt.tt_step_plan(), tt.tt_measurements(), c_bool()
        tt_lib.tt_step_begin(self.orchestrator, byref(plan))
        tt_lib.tt_measurements_init(byref(measured))
        slot = self.slots[plan.read_slot]
        gradient = self.measure(slot, plan.step, plan.position, measured)
        tt_lib.tt_step_check(self.orchestrator, byref(measured), byref(go))
        if go:
            self.slots[plan.write_slot] = self.update(slot, gradient, 1, measured)
        record = tt.tt_step_record()
        tt_lib.tt_step_end(self.orchestrator, byref(measured), byref(record))
        return record

    def now(self):
        return tt_lib.tt_orchestrator_step(self.orchestrator)

    def state(self):
        slot = self.slots[tt_lib.tt_orchestrator_slot(self.orchestrator)]
        return {name: data.tobytes() for name, data in slot.items()}

    def run(self, until):
        """To the end, and what remains of it."""
        try:
            while self.now() < until:
                self.step()
            tt_lib.tt_orchestrator_finish(self.orchestrator, 0)
            breakers = [tt_lib.tt_orchestrator_optimization(self.orchestrator, i).breaker
                        for i in range(2)]
            return self.state(), tt_lib.tt_orchestrator_totals(self.orchestrator), breakers
        finally:
            self.close()

    def close(self):
        tt_lib.tt_orchestrator_destroy(self.orchestrator)
        tt_lib.tt_resume_clear(byref(self.resume))
        tt_lib.tt_config_destroy(self.config)
        tt_lib.tt_params_destroy(self.params)

    def journal(self, kind):
        with open(os.path.join(self.folder, "decisions.jsonl"), encoding="utf-8") as lines:
            return [line for line in map(json.loads, lines) if line["kind"] == kind]


QUIET = ["job.unroll=2", "job.packed=2", "adapt.every_steps=0"]  # nothing rests on timing


class Layout(unittest.TestCase):
    def test_is_that_of_c(self):
        seen = set()
        for line in subprocess.check_output([layout], text=True).splitlines():
            name, number = line.split()
            struct, _, field = name.partition(".")
            mirror = getattr(tt, struct)
            if isinstance(mirror, int):
                self.assertEqual(mirror, int(number), name)
                continue
            seen.add(name)
            found = getattr(mirror, field).offset if field else sizeof(mirror)
            self.assertEqual(found, int(number), name)
        for name, mirror in vars(tt).items():
            if name.startswith("tt_") and isinstance(mirror, type):
                wanted = {name} | {f"{name}.{field}" for field, _ in mirror._fields_}
                self.assertLessEqual(wanted, seen, "layout.c misses some")


class Runs(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp(prefix="trimtab-ctypes-")
        self.addCleanup(shutil.rmtree, self.root)

    def folder(self, name):
        return os.path.join(self.root, name)

    def test_proves_the_culprit(self):
        clean, totals, _ = Job(self.folder("clean"), settings=QUIET).run(40)
        self.assertEqual((totals.published, totals.trips), (40, 0))
        job = Job(self.folder("harmed"), fault=20, settings=QUIET)
        state, totals, breakers = job.run(40)
        self.assertEqual(state, clean)
        self.assertEqual(breakers, [tt.TT_BREAKER_OPEN, tt.TT_BREAKER_CLOSED])
        found = job.journal("search")
        self.assertEqual([(one["step"], one["verdict"], one["guilty"]) for one in found],
                         [(20, "culprit", ["unrolling"])])
        self.assertEqual((totals.searches, totals.breakers_opened, totals.trips), (1, 1, 2))
        self.assertGreaterEqual(totals.replayed_steps, 2)
        self.assertTrue(any("the culprit is unrolling" in line for line in job.log))

    def test_suspects_the_culprit(self):
        clean, _, _ = Job(self.folder("clean"), replay=False, settings=QUIET).run(40)
        job = Job(self.folder("harmed"), fault=20, replay=False, settings=QUIET)
        state, totals, breakers = job.run(40)
        self.assertEqual(state, clean)
        self.assertEqual(breakers, [tt.TT_BREAKER_OPEN, tt.TT_BREAKER_CLOSED])
        self.assertEqual((totals.replayed_steps, job.journal("search")), (0, []))
        events = [(one["optimization"], one["event"]) for one in job.journal("breaker")]
        self.assertEqual(events, [("unrolling", "suspect")] * 5)

    def test_resumes_bit_by_bit_after_a_stop(self):
        unbroken, _, _ = Job(self.folder("unbroken"), fault=20, settings=QUIET).run(60)
        job = Job(self.folder("stopped"), fault=20, settings=QUIET)
        for _ in range(30):
            job.step()
        stopper = threading.Thread(target=tt_lib.tt_orchestrator_request_stop,
                                   args=(job.orchestrator, 15))
        stopper.start()
        stopper.join()
        with self.assertRaises(tt.Failure) as caught:
            job.run(60)
        self.assertEqual(caught.exception.code, tt.TT_EREQUEUE)
        state, _, breakers = Job(self.folder("stopped"), fault=20, settings=QUIET,
                                 resume=True).run(60)
        self.assertEqual(state, unbroken)
        self.assertEqual(breakers[0], tt.TT_BREAKER_OPEN)

    def test_asks_what_auto_is_and_tells_the_journal(self):
        job = Job(self.folder("auto"), settings=["adapt.every_steps=0"])
        config = tt_lib.tt_orchestrator_config(job.orchestrator)
        self.assertEqual(tt_lib.tt_config_int(config, b"job.packed"), 2)
        job.run(5)
        choices = {one["optimization"]: one for one in job.journal("choice")}
        self.assertEqual(choices["packing"]["changes"], {"job.packed": "2"})
        self.assertEqual(choices["unrolling"]["evidence"], {"by": "Python"})

    def test_reads_structs_that_come_by_value(self):
        job = Job(self.folder("values"), settings=QUIET)
        record = job.step()
        self.assertTrue(record.published)
        self.assertEqual(record.decision.gate, b"")
        kept = tt_lib.tt_orchestrator_record(job.orchestrator, 0)
        self.assertEqual(kept[0].loss, record.loss)
        self.assertFalse(tt_lib.tt_orchestrator_record(job.orchestrator, 5))
        names = [tt_lib.tt_orchestrator_gate(job.orchestrator, i).name
                 for i in range(tt_lib.tt_orchestrator_gate_count(job.orchestrator))]
        self.assertIn(b"loss", names)
        info = tt_lib.tt_orchestrator_optimization(job.orchestrator, 1)
        self.assertEqual((info.name, info.on, info.trial), (b"packing", True, b""))
        value = tt_lib.tt_config_get(tt_lib.tt_orchestrator_config(job.orchestrator),
                                     b"job.unroll")
        self.assertEqual((value.is_auto, getattr(value, "as").integer), (False, 2))
        line = create_string_buffer(256)
        decision = tt.tt_gate_decision(2, b"loss", b"", 11.0, 10.0)
        self.assertIn(b"loss", tt_lib.tt_gate_describe(byref(decision), line))
        job.run(2)

    def test_checkpoint_thread_calls_back(self):
        job = Job(self.folder("background"),
                  settings=QUIET + ["checkpoint.every_steps=1", "snapshot.slots=3"])
        state, totals, _ = job.run(30)
        self.assertGreater(len(job.readers), 1, "tensor_read was never called by another thread")
        self.assertEqual(totals.checkpoint_failures, 0)
        again = Job(self.folder("background"), settings=QUIET, resume=True)
        self.assertEqual(again.run(30)[0], state)

    def test_exception_in_a_callback_ends_the_run_with_its_text(self):
        class Broken(Job):
            def run_step(self, replay, out):
                raise KeyError("no such slot")
        job = Broken(self.folder("broken"), fault=5, settings=QUIET)
        with self.assertRaises(tt.Failure) as caught:
            job.run(10)
        self.assertIn("no such slot", str(caught.exception))

    def test_wrong_key_is_refused_with_the_nearest(self):
        with self.assertRaises(tt.Failure) as caught:
            Job(self.folder("wrong"), settings=["job.unrol=2"])
        self.assertIn("job.unroll", str(caught.exception))

    def test_two_in_two_threads_do_not_meet(self):
        wanted = [Job(self.folder(f"alone{i}"), fault=10 + 7 * i, settings=QUIET).run(30)[0]
                  for i in range(2)]
        got = [None, None]

        def work(i):
            got[i] = Job(self.folder(f"together{i}"), fault=10 + 7 * i, settings=QUIET).run(30)[0]
        threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        self.assertEqual(got, wanted)


if __name__ == "__main__":
    library, layout = sys.argv[1:3]
    try:
        tt_lib = tt.load(library)
    except OSError as problem:
        print(f"skipped: {problem}")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1], verbosity=1)
