"""What tools like grpcurl rely on: reflection under both its names, and the health service."""

import unittest

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import nodes
from dlog.v1 import admin_pb2, cluster_pb2, common_pb2, log_pb2

SERVICES = {"dlog.v1.Log", "dlog.v1.Admin", "dlog.v1.Cluster"}
TIMEOUT = 60


def setUpModule():
    global CLUSTER
    CLUSTER = nodes.Nodes(1)


def tearDownModule():
    codes = CLUSTER.stop()
    assert set(codes.values()) == {0}, f"exit codes of the nodes: {codes}"


class Case(unittest.TestCase):
    def setUp(self):
        self.channel = grpc.insecure_channel(CLUSTER.servers)
        self.addCleanup(self.channel.close)


class Reflection(Case):
    def ask(self, version, **request):
        """One question to reflection by this name; the messages are the same under both."""
        call = self.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        (answer,) = call(iter([reflection_pb2.ServerReflectionRequest(**request)]), timeout=TIMEOUT)
        return answer

    def test_every_service_that_answers_is_listed_and_no_other(self):
        for version in ("v1", "v1alpha"):
            answer = self.ask(version, list_services="")
            listed = {service.name for service in answer.list_services_response.service}
            self.assertEqual(listed, SERVICES | {"grpc.health.v1.Health"}, version)

    def test_what_it_describes_is_what_is_published(self):
        for version in ("v1", "v1alpha"):
            for module in (common_pb2, log_pb2, admin_pb2, cluster_pb2):
                name = module.DESCRIPTOR.name
                answer = self.ask(version, file_by_filename=name)
                served = [
                    descriptor_pb2.FileDescriptorProto.FromString(file)
                    for file in answer.file_descriptor_response.file_descriptor_proto
                ]
                (served,) = (file for file in served if file.name == name)
                published = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
                self.assertEqual(self.plain(served), self.plain(published), f"{name} by {version}")

    @staticmethod
    def plain(file):
        """Without comments, and without JSON names: compilers differ in whether they write them down."""

        def strip(message):
            for field in message.field:
                field.ClearField("json_name")
            for nested in message.nested_type:
                strip(nested)

        file.ClearField("source_code_info")
        for message in file.message_type:
            strip(message)
        return file

    def test_a_call_can_be_made_with_nothing_but_reflection(self):
        pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel))
        self.assertEqual(self.call(pool, "CreateTopic", name="reflected", partitions=2).created, True)
        topics = self.call(pool, "ListTopics").topics
        self.assertEqual([(topic.name, topic.partitions) for topic in topics], [("reflected", 2)])

    def call(self, pool, verb, **fields):
        method = pool.FindServiceByName("dlog.v1.Admin").FindMethodByName(verb)
        request = message_factory.GetMessageClass(method.input_type)(**fields)
        answer = message_factory.GetMessageClass(method.output_type)
        unary = self.channel.unary_unary(
            f"/dlog.v1.Admin/{verb}", request_serializer=type(request).SerializeToString, response_deserializer=answer.FromString
        )
        return unary(request, timeout=TIMEOUT)

    def test_an_unknown_symbol_is_not_found(self):
        with self.assertRaises(grpc.RpcError) as caught:
            self.ask("v1", file_containing_symbol="dlog.v1.NoSuchService")
        self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)


class Health(Case):
    def setUp(self):
        super().setUp()
        self.health = health_pb2_grpc.HealthStub(self.channel)

    def test_each_service_and_the_whole_are_serving(self):
        for service in ("", *SERVICES):
            answer = self.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT)
            self.assertEqual(answer.status, health_pb2.HealthCheckResponse.SERVING, service)

    def test_an_unknown_service_is_not_found(self):
        with self.assertRaises(grpc.RpcError) as caught:
            self.health.Check(health_pb2.HealthCheckRequest(service="dlog.v1.Nothing"), timeout=TIMEOUT)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)

    def test_watching_begins_with_how_it_is(self):
        stream = self.health.Watch(health_pb2.HealthCheckRequest(service="dlog.v1.Log"), timeout=TIMEOUT)
        self.assertEqual(next(iter(stream)).status, health_pb2.HealthCheckResponse.SERVING)
        stream.cancel()


if __name__ == "__main__":
    unittest.main()
