# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The pose node: Image and CameraInfo in, poses and TF out; managed (lifecycle), autostarted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import wraps
from importlib import import_module
from typing import Any, NamedTuple

import cv2
import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from face_pose_ros.engines.shared import SharedNetworks
from face_pose_ros.ros.camera_sync import CameraSync
from face_pose_ros.ros.compat import TransformBroadcaster
from face_pose_ros.ros.declaring import (
    PARAMETER_ERRORS,
    ParameterError,
    declare_options,
    with_parameters,
)
from face_pose_ros.ros.depth_input import DepthInput
from face_pose_ros.ros.diagnostics import Monitor
from face_pose_ros.ros.frame_worker import FrameWorker
from face_pose_ros.ros.frames import Frames
from face_pose_ros.ros.parameters import Parameters
from face_pose_ros.ros.pipeline import FrameError, FramePipeline
from face_pose_ros.ros.publishers import FacePublisher
from face_pose_ros.ros.silence import SilenceWatch
from face_pose_ros.ros.spinning import Executor, Interruption, init, leave, spin_until
from face_pose_ros.ros.topics import advertise, latched, subscribe, transported
from face_pose_ros.ros.transitions import answer_during_transitions
from face_pose_ros.weights import WeightsError

_TORCH_ENGINE = 'face_pose_ros.engines.torch_engine'  # imported with the first GPU
_WARNING_PERIOD_S = 5.0  # between warnings of the same cause
_DIAGNOSTICS_PERIOD_S = 1.0
_END_S = 1.0  # wait for the current frame and transition when the process ends
_RELOAD_AFTER = 3  # failed frames in a row after which the networks are loaded again


class Frame(NamedTuple):
    """An image and its CameraInfo, of one stamp."""

    image: Image | CompressedImage
    info: CameraInfo


class _Input(NamedTuple):
    """A topic that the active node subscribes to."""

    argument: str  # launch argument that sets the topic
    topic: str
    kind: type
    callback: Callable[[Any], None]
    qos: QoSProfile | None = None  # None: that of sensor data


_Transition = Callable[['PoseNode', LifecycleState], TransitionCallbackReturn]


def _reported(transition: _Transition) -> _Transition:
    """Log the exception of a transition; rclpy turns it into ERROR silently."""

    @wraps(transition)
    def reporting(node: PoseNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception as error:
            if node.context.ok():  # else the process is ending, which is the reason
                name = transition.__name__.removeprefix('on_')
                node.get_logger().fatal(f'{name} failed: {error}')
            return TransitionCallbackReturn.ERROR

    return reporting


class PoseNode(LifecycleNode):
    """Publishes the heads in images; processes the newest image whenever it is ready.

    Messages arrive in the executor's thread; one worker thread processes the newest frame. So
    there is no queue, and no callback waits for a network.

    configure loads the networks and advertises, activate subscribes, deactivate unsubscribes and
    deletes all tracks, cleanup frees the device. Transitions run in their own threads, so that
    services and /diagnostics respond in every state.
    """

    def __init__(self, shared: SharedNetworks | None = None, **kwargs: Any) -> None:
        """Declare and check the parameters.

        Args:
            shared: Networks shared with other nodes of this process; None: its own.
            kwargs: Passed on to `rclpy.lifecycle.LifecycleNode`.

        Raises:
            ParameterError: See `declare_options`.
        """
        super().__init__('face_pose', **kwargs)
        # First the members that destroy_node uses: rclpy also calls it if __init__ fails.
        self._worker: FrameWorker[Frame] | None = None
        self._transitions: set[threading.Thread] = set()  # which are running
        self._shared = shared
        self.parameters = declare_options(self, Parameters())
        self.add_on_set_parameters_callback(self._change_parameters)
        self.pipeline: FramePipeline | None = None
        self._publisher: FacePublisher | None = None
        self._camera_subscriptions: list[Subscription] = []
        self._warned_s: dict[str, float] = {}
        self._failures = 0  # in a row
        self._state = 'unconfigured'  # for /diagnostics
        self._silence: SilenceWatch | None = None

        self.image_topic, self._image_kind = transported(
            self, 'image', self.parameters.image_transport
        )
        self.info_topic = self.resolve_topic_name('camera_info')
        self._frames: Frames | None = None  # TF; created when a depth camera needs it
        self._tf = TransformBroadcaster(self)
        self._monitor = Monitor()
        self._diagnostics_pub = advertise(self, DiagnosticArray, '/diagnostics', overridable=False)
        # A steady clock also runs while the simulation is paused.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_DIAGNOSTICS_PERIOD_S, self._publish_diagnostics, clock=steady)
        self._transitions = answer_during_transitions(self)

    def autostart(self) -> bool:
        """Configure and activate; False if it failed, with the reason in the log."""
        success = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == success and self.trigger_activate() == success

    @_reported
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the networks, warm them up, advertise the outputs."""
        self._state = 'loading the networks'
        self.get_logger().info('loading the networks')
        try:
            self.pipeline = FramePipeline(
                self.parameters,
                self.image_topic,
                self.info_topic,
                self._warn,
                self._shared,
                # Frames and topics of tracks are global on the robot.
                id_prefix=''.join(f'{part}_' for part in self.get_namespace().split('/') if part),
            )
        except (ValueError, WeightsError) as error:
            self._state = 'unconfigured'
            self.get_logger().fatal(str(error))
            return TransitionCallbackReturn.FAILURE
        self._publisher = FacePublisher(self, self._tf)
        self._state = 'inactive'
        return TransitionCallbackReturn.SUCCESS

    @_reported
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the camera."""
        assert self.pipeline is not None
        self._worker = FrameWorker(self.work, lambda _: self._monitor.frame_dropped('overtaken'))
        inputs = self._camera_inputs(self._worker)
        if self.parameters.use_depth:
            inputs += self._depth_inputs(self.pipeline)
        silence = self._silence = SilenceWatch(
            self, {i.topic: (i.kind, i.argument) for i in inputs}, self._warn_silent
        )
        self._camera_subscriptions = [self._subscribe(i, silence) for i in inputs]
        self._state = 'active'
        topics = ', '.join(f'{i.argument} from {i.topic}' for i in inputs)
        self.get_logger().info(f'{topics}; networks on {self.pipeline.estimator.device}')
        return super().on_activate(state)

    def _camera_inputs(self, worker: FrameWorker[Frame]) -> list[_Input]:
        latched_info = self.parameters.camera_info_is_latched
        sync: CameraSync[Image | CompressedImage] = CameraSync(
            lambda image, info: worker.put(Frame(image, info)),
            self._warn_unpaired,
            self._warn_nearest,
            latched_info,
        )

        def add_image(image: Image | CompressedImage) -> None:
            self._monitor.image_received()
            sync.add_image(image)

        info_qos = latched() if latched_info else None
        return [
            _Input('image', self.image_topic, self._image_kind, add_image),
            _Input('camera_info', self.info_topic, CameraInfo, sync.add_info, info_qos),
        ]

    def _depth_inputs(self, pipeline: FramePipeline) -> list[_Input]:
        parameters = self.parameters
        topic, kind = transported(self, 'depth', parameters.depth_transport)
        info_topic = self.resolve_topic_name('depth_camera_info')
        depth = pipeline.depth = DepthInput(
            topic,
            info_topic,
            parameters.depth_max_offset_s,
            parameters.image_is_rectified,
            self._look_up,
        )

        def add_image(image: Image | CompressedImage) -> None:
            depth.add_image(image)
            if depth.needs_tf and self._frames is None:
                self._frames = Frames(self)

        return [
            _Input('depth', topic, kind, add_image),
            _Input('depth_camera_info', info_topic, CameraInfo, depth.add_info),
        ]

    def _subscribe(self, source: _Input, silence: SilenceWatch) -> Subscription:
        def receive(message: Any) -> None:
            silence.received(source.topic)
            source.callback(message)

        return subscribe(self, source.kind, source.topic, receive, source.qos)

    def _look_up(self, target: str, source: str, stamp: Time) -> np.ndarray:
        if self._frames is None:
            raise ValueError('no TF message has arrived yet')
        return self._frames.lookup(target, source, stamp)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, finish the current frame, delete all tracks."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the device and remove the topics."""
        self._free()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything, whatever the state."""
        self._free()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything: a transition has failed; the node can be configured again."""
        self._free()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """Stop the worker, then the node."""
        self.stop_working()
        super().destroy_node()

    def stop_working(self) -> bool:
        """Stop processing; False if the current transition or frame does not end in time."""
        for transition in list(self._transitions):
            transition.join(_END_S)
        return not self._transitions and (self._worker is None or self._worker.stop(_END_S))

    def _stop(self) -> None:
        self._state, self._silence = 'inactive', None
        for subscription in self._camera_subscriptions:
            self.destroy_subscription(subscription)
        self._camera_subscriptions = []
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
        if self.pipeline is not None:
            self.pipeline.reset()
            self.pipeline.depth = None
        if self._publisher is not None:
            self._publisher.withdraw_all()

    def _free(self) -> None:
        self._stop()
        self._state = 'unconfigured'
        on_gpu = self.pipeline is not None and self.pipeline.estimator.device != 'cpu'
        self.pipeline = None
        if self._publisher is not None:
            self._publisher.destroy()
            self._publisher = None
        if on_gpu:
            import_module(_TORCH_ENGINE).release_memory()

    def _change_parameters(self, changes: Iterable[Parameter]) -> SetParametersResult:
        """Replace the parameter snapshot; the current frame keeps the old one."""
        try:
            values = {change.name: change.value for change in changes}
            self.parameters = with_parameters(self.parameters, values)
        except ParameterError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def work(self, frame: Frame) -> None:
        """Process a frame, in the worker thread."""
        try:
            self._answer(frame)
        except FrameError as error:
            self._monitor.frame_dropped(error.reason)
            if error.reason == 'camera_info':
                self._monitor.camera_state(str(error), calibrated=False)
            self._warn(error.reason, str(error))
        # After any error of one frame the node continues with the next; the error is logged.
        except Exception as error:
            if not self.context.ok():
                return  # the context was shut down during the frame
            text = f'frame from {self.image_topic} lost: {error!r}'
            self._monitor.frame_dropped('failed')
            self._monitor.failed(text)
            self._warn('failed', text)
            self._failures += 1
            if self._failures >= _RELOAD_AFTER:
                self._reload()

    def _answer(self, frame: Frame) -> None:
        assert self.pipeline is not None
        assert self._publisher is not None
        parameters = self.parameters
        shared, tracker = self._shared, self.pipeline.estimator.tracker
        with shared.frame(tracker) if shared else nullcontext():
            answer = self.pipeline.answer(*frame, parameters)
        self._failures = 0
        header, ids = frame.image.header, self.pipeline.estimator.tracker.ids
        begin_s = time.perf_counter()
        self._publisher.publish(answer, header, ids, parameters.publish_tf)
        stages_s = answer.stages_s | {'publish': time.perf_counter() - begin_s}
        now_s = 1e-9 * self.get_clock().now().nanoseconds
        stages_s['since capture'] = now_s - (header.stamp.sec + 1e-9 * header.stamp.nanosec)
        self._monitor.camera_state(
            f'{answer.camera.distortion_model}, {answer.camera.width} x {answer.camera.height} px',
            calibrated=True,
            findings=self.pipeline.findings,
        )
        if self.pipeline.depth is not None:
            self._monitor.depth_state(self.pipeline.depth.state, self.pipeline.depth.findings)
        self._monitor.frame_processed(
            stages_s, len(answer.faces), ids, self.pipeline.estimator.faces_without_rays
        )

    def _reload(self) -> None:
        assert self.pipeline is not None
        try:
            self.pipeline.reload()
        except Exception as error:  # the device may be lost; the next frame tries again
            self._monitor.failed(f'networks cannot be loaded again: {error!r}')
            return
        self._failures = 0
        self.get_logger().info('networks loaded again')

    def _warn_unpaired(self, image: Image | CompressedImage, arrived: str) -> None:
        stamp = image.header.stamp
        text = (
            f'no CameraInfo on {self.info_topic} for the image on {self.image_topic} with stamp '
            f'{stamp.sec}.{stamp.nanosec:09d}, expected one with the same stamp: {arrived}'
        )
        if arrived.endswith('ago'):
            text += '; if it is published once and latched, set camera_info_is_latched'
        self._monitor.frame_dropped('unpaired')
        self._monitor.camera_state(text, calibrated=False)
        self._warn('unpaired', text)

    def _warn_silent(self, topic: str, waited_s: float, reason: str) -> None:
        if topic == self.image_topic:
            self._monitor.no_image(reason)
        self.get_logger().warning(f'no message on {topic} for {waited_s:.0f} s: {reason}')

    def _warn_nearest(self, difference_ns: int) -> None:
        self._warn(
            'nearest',
            f'stamps on {self.info_topic} and {self.image_topic} are never equal but differ by '
            f'less than a millisecond ({difference_ns / 1000:+g} us): the nearest are paired',
        )

    def _warn(self, cause: str, text: str) -> None:
        """Warn, throttled for each cause separately."""
        now_s = time.monotonic()
        if now_s - self._warned_s.get(cause, -_WARNING_PERIOD_S) >= _WARNING_PERIOD_S:
            self._warned_s[cause] = now_s
            self.get_logger().warning(text)

    def _publish_diagnostics(self) -> None:
        silence, pipeline = self._silence, self.pipeline  # a transition's thread may free them
        if silence:
            silence.check()
        about = {
            'image topic': self.image_topic,
            'camera_info topic': self.info_topic,
            'device': self.parameters.device,
        }
        if pipeline is not None:
            device = pipeline.estimator.device
            about['device'] = device
            if device != 'cpu':
                used = import_module(_TORCH_ENGINE).allocated_bytes(device)
                about['device memory [MB]'] = f'{used / 1e6:.0f}'
        name = self.get_fully_qualified_name().lstrip('/')
        self._diagnostics_pub.publish(
            DiagnosticArray(
                header=Header(stamp=self.get_clock().now().to_msg()),
                status=self._monitor.statuses(name, self._state, about),
            )
        )


def run(make_nodes: Callable[[], Sequence[PoseNode]], args: list[str] | None) -> None:
    """Run nodes until the process is interrupted; exit status 1 if one can't be started."""
    # The context outlives an interruption: a transition without it would be an error.
    stop, failed = Interruption(), threading.Event()
    init(args, stop)
    # OpenCV's threads busy-wait after each image: 1 ms of CPU time to save 0.1 ms.
    cv2.setNumThreads(1)
    try:
        nodes = make_nodes()
    except PARAMETER_ERRORS as error:
        rclpy.logging.get_logger('face_pose').fatal(str(error))
        leave(1)

    def start() -> None:
        for node in nodes:
            if node.parameters.autostart and not (stop.is_set() or node.autostart()):
                failed.set()
                stop.set()

    # In parallel to the executor, which handles services meanwhile.
    starting = threading.Thread(target=start, name='autostart', daemon=True)
    executor = Executor()
    for node in nodes:
        executor.add_node(node)
    starting.start()
    spin_until(stop, executor)
    starting.join(_END_S)
    idle = [node.stop_working() for node in nodes]
    busy = starting.is_alive() or not all(idle)
    if not busy:
        executor.shutdown()
        for node in nodes:
            node.destroy_node()
    leave(1 if failed.is_set() else 0, busy)


def main(args: list[str] | None = None) -> None:
    """Run the node of one camera."""
    run(lambda: [PoseNode()], args)
