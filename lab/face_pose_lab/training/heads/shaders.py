# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The GLSL programs of the renderer.

Camera frame: x right, y down, z forward. The lens (Brown-Conrady, OpenCV's plumb_bob) acts on the
vertices: the meshes are fine enough for their straight edges to follow it to a small part of a
pixel. Light is linear RGB; the harmonics are those of synthetic/shading.py with the cosine's gain
already in them (Ramamoorthi and Hanrahan 2001).
"""

# The torso turns against the head about the neck; `part` is the head's share in that motion.
_POSE = """
uniform vec3 neck, neck_axis;
uniform float neck_angle;
vec3 turned(vec3 v, float part) {
    float a = neck_angle * (1.0 - part), c = cos(a), s = sin(a);
    return v * c + cross(neck_axis, v) * s + neck_axis * dot(neck_axis, v) * (1.0 - c);
}
"""

_LENS = """
uniform vec4 intrinsics;  // fx, fy, cx, cy [px]
uniform vec2 size;        // width, height [px]
uniform float dist[5];    // k1 k2 p1 p2 k3
uniform float range_sq;   // beyond this |xy|^2 the radial factor stays
uniform vec2 depth_range;
vec4 projected(vec3 p) {
    // Homogeneous from the start: a triangle that crosses the camera's plane is cut correctly.
    vec2 xy = p.xy / max(p.z, 0.05);
    float r2 = dot(xy, xy);
    vec2 q = xy * min(1.0, sqrt(range_sq / max(r2, 1e-9)));
    r2 = min(r2, range_sq);
    float radial = 1.0 + r2 * (dist[0] + r2 * (dist[1] + r2 * dist[4]));
    vec2 tangential = vec2(2.0 * dist[2] * q.x * q.y + dist[3] * (r2 + 2.0 * q.x * q.x),
                           dist[2] * (r2 + 2.0 * q.y * q.y) + 2.0 * dist[3] * q.x * q.y);
    vec2 uv_z = intrinsics.xy * (p.xy * radial + tangential * p.z) + intrinsics.zw * p.z;
    vec2 ndc_z = 2.0 * (uv_z + 0.5 * p.z) / size - p.z;  // row 0 is the lowest, as it is read
    float near = depth_range.x, far = depth_range.y;
    float depth = ((far + near) * p.z - 2.0 * far * near) / (far - near);
    return vec4(ndc_z, depth, p.z);
}
"""

_HEADER = """#version 330
in vec3 position, normal;
in vec2 uv;
in vec3 shares;
uniform mat4 T_cam_head;
"""

VERTEX = (
    _HEADER
    + _POSE
    + _LENS
    + """
uniform mat4 T_light_cam;
out vec3 cam_normal, cam_position, light_position;
out vec2 st, paint;
void main() {
    vec3 p = turned(position - neck, shares.x) + neck;
    cam_position = (T_cam_head * vec4(p, 1)).xyz;
    cam_normal = mat3(T_cam_head) * turned(normal, shares.x);
    light_position = 0.5 + 0.5 * (T_light_cam * vec4(cam_position, 1)).xyz;
    st = uv;
    paint = shares.yz;
    gl_Position = projected(cam_position);
}
"""
)

SHADOW_VERTEX = (
    _HEADER
    + _POSE
    + """
uniform mat4 T_light_cam;
out vec2 st;
out float depth;
void main() {
    vec3 p = turned(position - neck, shares.x) + neck;
    st = uv;
    depth = 0.0;
    gl_Position = T_light_cam * (T_cam_head * vec4(p, 1));
}
"""
)

DEPTH_VERTEX = (
    _HEADER
    + _POSE
    + _LENS
    + """
out vec2 st;
out float depth;
void main() {
    vec3 p = (T_cam_head * vec4(turned(position - neck, shares.x) + neck, 1)).xyz;
    st = uv;
    depth = p.z;
    gl_Position = projected(p);
}
"""
)

DEPTH_FRAGMENT = """#version 330
in vec2 st;
in float depth;
uniform sampler2D albedo;
out float z;
void main() {
    if (texture(albedo, st).a < 0.4) discard;
    z = depth;
}
"""

FRAGMENT = """#version 330
in vec3 cam_normal, cam_position, light_position;
in vec2 st, paint;
uniform sampler2D albedo;
uniform sampler2DShadow shadow;
uniform vec3 harmonics[9];
uniform mat3 R_env_cam;
uniform vec3 lamp, lamp_colour;  // towards it; radiance of a white surface that faces it
uniform float shadowed, lamp_on, exposure;
uniform vec3 tint, hair;
uniform float saturation, darker, gloss, shininess, two_sided, grain, beard, scalp;
out vec4 colour;
float noise(vec2 p) {
    p = floor(p);
    return fract(sin(dot(p, vec2(127.1, 311.7))) * 43758.5453);
}
vec3 ambient(vec3 n) {
    vec3 e = harmonics[0] * 0.282095
        + 0.488603 * (harmonics[1] * n.y + harmonics[2] * n.z + harmonics[3] * n.x)
        + 1.092548 * (harmonics[4] * n.x * n.y + harmonics[5] * n.y * n.z
            + harmonics[7] * n.x * n.z)
        + 0.315392 * harmonics[6] * (3.0 * n.z * n.z - 1.0)
        + 0.546274 * harmonics[8] * (n.x * n.x - n.y * n.y);
    return max(e, 0.1 * harmonics[0] * 0.282095);
}
void main() {
    vec4 texel = texture(albedo, st);
    if (texel.a < 0.35) discard;
    // Squares and roots stand for sRGB's curve here and below: llvmpipe's pow is slow.
    vec3 a = texel.rgb * texel.rgb * mix(vec3(1), texel.rgb, darker);
    a = mix(vec3(dot(a, vec3(0.3, 0.6, 0.1))), a, saturation) * tint;
    if (grain > 0.0) a *= 1.0 - grain * noise(st * vec2(300, 60));
    if (beard * paint.x > 0.0)
        a = mix(a, hair, clamp(beard * paint.x * (0.75 + 0.5 * noise(st * 900.0)), 0.0, 0.95));
    if (scalp * paint.y > 0.0)
        a = mix(a, hair * (0.7 + 0.6 * noise(st * 700.0)), clamp(scalp * paint.y, 0.0, 1.0));

    vec3 n = normalize(cam_normal), v = normalize(-cam_position);
    if (two_sided > 0.5 && dot(n, v) < 0.0) n = -n;
    vec3 sky = ambient(R_env_cam * n);
    vec3 light = a * sky;
    float d = dot(n, lamp);
    if (d > -0.2 && lamp_on > 0.5) {
        float lit = mix(1.0, texture(shadow, light_position - vec3(0, 0, 0.006)), shadowed);
        // Red light creeps furthest round the terminator: skin scatters it the most.
        vec3 wrap = vec3(0.2, 0.1, 0.05);
        light += a * lit * lamp_colour * max((d + wrap) / (1.0 + wrap), 0.0);
        float h = max(dot(n, normalize(lamp + v)), 0.0) * step(0.0, d);
        light += gloss * lit * lamp_colour * exp2(-1.4427 * shininess * (1.0 - h)) * step(0.01, h);
    }
    float rim = 1.0 - max(dot(n, v), 0.0);
    light += 0.35 * gloss * sky * rim * rim * rim * rim;
    light *= exposure;
    colour = vec4(sqrt(light / (0.8 + light)), texel.a);
}
"""

BACKGROUND_VERTEX = """#version 330
in vec2 corner;
out vec2 at;
void main() {
    at = corner;
    gl_Position = vec4(2.0 * corner - 1.0, 0.999, 1.0);
}
"""

# The environment as the camera sees it, or, where `flat_picture` is set, a picture on the wall.
BACKGROUND_FRAGMENT = """#version 330
in vec2 at;
uniform sampler2D picture;
uniform vec4 intrinsics;
uniform vec2 size;
uniform mat3 R_env_cam;
uniform float lod, exposure, flat_picture;
out vec4 colour;
void main() {
    if (flat_picture > 0.5) {
        colour = vec4(textureLod(picture, at, lod).rgb, 1);
        return;
    }
    vec3 ray = vec3((at * size - 0.5 - intrinsics.zw) / intrinsics.xy, 1);
    ray = normalize(R_env_cam * ray);
    vec2 st = vec2(atan(ray.x, ray.z) / 6.2831853 + 0.5, 0.5 + asin(ray.y) / 3.14159265);
    vec3 light = exposure * textureLod(picture, st, lod).rgb;
    colour = vec4(sqrt(light / (0.8 + light)), 1);
}
"""
