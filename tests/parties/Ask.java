// Ask what standard input says, with the JDK's client as it comes: `java Ask URL`. Input and output are said in asking.py.

import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.Base64;

public class Ask {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        BufferedReader plan = new BufferedReader(new InputStreamReader(System.in));
        for (String line = plan.readLine(); line != null; line = plan.readLine()) {
            String[] asked = line.split(" ");
            HttpRequest.Builder request =
                HttpRequest.newBuilder(URI.create(arguments[0] + asked[1])).timeout(Duration.ofSeconds(30));
            if (!asked[2].equals("none")) {
                request.header("Content-Type", "application/json");
            }
            request.method(asked[0], content(asked[2], Integer.parseInt(asked[3])));
            try {
                tell(client.send(request.build(), BodyHandlers.ofByteArray()));
            } catch (IOException error) {
                System.out.println("! " + error.toString().replaceAll("[\r\n]", " "));
            }
        }
    }

    private static BodyPublisher content(String framing, int size) {
        if (framing.equals("none")) {
            return BodyPublishers.noBody();
        }
        byte[] body = ("\"" + "x".repeat(size - 2) + "\"").getBytes();
        return framing.equals("length")
            ? BodyPublishers.ofByteArray(body)
            : BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body));
    }

    private static void tell(HttpResponse<byte[]> got) {
        System.out.println("= " + got.statusCode());
        got.headers().map().forEach(
            (name, values) -> values.forEach(value -> System.out.println(name + ": " + value)));
        System.out.println(". " + Base64.getEncoder().encodeToString(got.body()));
    }
}
